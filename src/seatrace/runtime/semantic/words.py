"""Word lists of the guard: English words that turn a question into another one, of no trade in particular."""

# ruff: noqa: SIM905

from __future__ import annotations

from collections.abc import Mapping


def _numbered(words: str, start: int = 0, step: int = 1) -> dict[str, str]:
    return {word: str(start + at * step) for at, word in enumerate(words.split())}


NUMBERS: Mapping[str, str] = {
    **_numbered(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    ),
    **_numbered("seventeen eighteen nineteen", 17),
    **_numbered("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10),
    "dozen": "12",
    "half": "0.5",
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
    "once": "1x",
    "twice": "2x",
}
"""Number words. ``one`` counts only before a unit: "which one", "one of them" are no numbers."""

MONTHS = frozenset(
    "january february march april may june july august september october november december "
    "jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
DAYS = frozenset("monday tuesday wednesday thursday friday saturday sunday".split())

UNITS: Mapping[str, str] = {
    **dict.fromkeys("second seconds sec secs".split(), "s"),
    **dict.fromkeys("minute minutes min mins".split(), "min"),
    **dict.fromkeys("hour hours hr hrs".split(), "h"),
    **dict.fromkeys("day days".split(), "d"),
    **dict.fromkeys("week weeks".split(), "wk"),
    **dict.fromkeys("month months".split(), "mo"),
    **dict.fromkeys("year years yr yrs".split(), "y"),
    **dict.fromkeys("kg kilo kilos kilogram kilograms".split(), "kg"),
    **dict.fromkeys("g gram grams".split(), "g"),
    **dict.fromkeys("mg milligram milligrams".split(), "mg"),
    **dict.fromkeys("km kilometre kilometres kilometer kilometers".split(), "km"),
    **dict.fromkeys("mile miles".split(), "mi"),
    **dict.fromkeys("gb gigabyte gigabytes".split(), "gb"),
    **dict.fromkeys("mb megabyte megabytes".split(), "mb"),
    **dict.fromkeys("percent pc".split(), "%"),
    **dict.fromkeys("pound pounds gbp".split(), "gbp"),
    **dict.fromkeys("dollar dollars usd".split(), "usd"),
    **dict.fromkeys("euro euros eur".split(), "eur"),
    "am": "am",
    "pm": "pm",
}

NEGATIONS = frozenset(
    "not no never none nothing nobody nowhere neither nor cannot without unless except excluding unable fail fails "
    "failed failing refuse refuses refused lack lacks lacking hardly barely stop avoid".split()
)

_ANTONYMS = """
above/below,under accept/decline,reject,refuse activate/deactivate,cancel add/remove,delete,subtract admit/deny
advance/arrears advantages/disadvantages after/before allow/forbid,ban,prohibit,block
allowed/banned,forbidden,prohibited,blocked,disallowed always/never,sometimes approve/reject,decline,deny
approved/rejected,declined,denied,refused arrival/departure,departures arrivals/departures,departure
arrive/depart,leave attach/detach begin/end,finish,stop benefits/risks,drawbacks,disadvantages best/worst better/worse
big/small,little bottom/top buy/sell,rent,return buyer/seller,tenant buying/selling,renting cheap/expensive,dear
cheapest/dearest,priciest,expensive close/open closed/open closing/opening cold/hot,warm connect/disconnect
cover/exclude covered/excluded create/delete,destroy,remove credit/debit cut/raise dead/alive decrease/increase
decreased/increased decreasing/increasing deny/confirm deposit/withdraw deposits/withdrawals
domestic/international,overseas,abroad down/up downgrade/upgrade download/upload dry/wet earlier/later earliest/latest
early/late earn/spend,lose easy/hard,difficult eat/avoid eligible/ineligible,barred,excluded emigrate/immigrate
employed/unemployed,self-employed employer/employee enable/disable enabled/disabled encrypt/decrypt end/start
ended/started enter/leave,exit entrance/exit evening/morning,afternoon exclude/include excluding/including,included
expand/collapse,shrink export/import exports/imports fail/pass,succeed failed/passed,succeeded fast/slow faster/slower
fastest/slowest female/male few/many fewer/more find/lose first/last fixed/variable follow/unfollow
forward/backward,back free/paid,charged from/to full/empty,partial,part full-time/part-time gain/lose general/specific
give/receive,take good/bad guilty/innocent happy/sad hard/soft healthy/ill,sick,unwell heavy/light help/hurt,harm
hide/show,unhide high/low higher/lower highest/lowest hire/fire in/out inbound/outbound included/excluded
increase/reduce,lower,cut indoor/outdoor indoors/outdoors inside/outside install/uninstall,remove internal/external
join/leave,quit keep/discard,cancel landlord/tenant large/small largest/smallest lawful/unlawful,illegal left/right
legal/illegal,unlawful lend/borrow less/more lock/unlock long/short longer/shorter longest/shortest loss/profit
man/woman married/unmarried,single,divorced max/min maximum/minimum men/women merge/close,split most/least
mother/father mute/unmute near/far,distant new/old,existing,used newest/oldest night/day on/off
online/offline,person,store,paper,post open/shut optional/mandatory,required,compulsory paid/unpaid,owed
pause/resume,cancel,stop pay/charge,refund permanent/temporary plug/unplug positive/negative postpone/expedite
prefix/suffix prevent/cause private/public promote/demote pros/cons pull/push raise/lower read/write,unread
receive/send reduce/raise remember/forget renew/cancel,end residential/commercial,business return/keep,one-way
rich/poor right/wrong rise/fall,drop rising/falling run/stop safe/dangerous,unsafe,risky save/spend,delete
sender/recipient,receiver senior/junior separate/together,joint,combined simple/complex
single/double,multiple,return,joint start/stop,finish,cancel starting/stopping,finishing,ending starts/ends,finishes
strong/weak subscribe/unsubscribe,cancel success/failure sunrise/sunset take/avoid thick/thin tight/loose true/false
under/over upper/lower upstairs/downstairs urban/rural vegan/meat vertical/horizontal victory/defeat
visible/hidden,invisible weekday/weekend weekdays/weekends widen/narrow win/lose winner/loser winning/losing
with/without within/after,outside work/fault,break working/broken,faulty,fault young/old youngest/oldest
"""


def _antonyms() -> dict[str, frozenset[str]]:
    known: dict[str, set[str]] = {}
    for pair in _ANTONYMS.split():
        word, _, others = pair.partition("/")
        for other in others.split(","):
            known.setdefault(word, set()).add(other)
            known.setdefault(other, set()).add(word)
    return {word: frozenset(others) for word, others in known.items()}


ANTONYMS: Mapping[str, frozenset[str]] = _antonyms()

_SCOPES = (
    # when
    "today=todays tonight tomorrow=tomorrows yesterday=yesterdays now=currently,present,presently "
    "afternoon midday night=overnight weekend=weekends weekday=weekdays",
    "last=previous,past,prior,latest,earlier,final next=upcoming,following,coming",
    "first=1st,initial,initially second=2nd third=3rd fourth=4th fifth=5th last=final",
    "hourly daily=nightly,everyday weekly fortnightly monthly quarterly annual=annually,yearly",
    "spring summer autumn=fall winter christmas=xmas easter",
    # how many
    "all=every,everything,entire,whole,each,everyone some=few,several,partial only=solely,exclusively both either",
    "maximum=max,most,limit,highest minimum=min,least,lowest average=mean,typical,usual total=overall",
    # for whom
    "adult=adults,grown-up child=children,childs,kid,kids,son,daughter,toddler baby=babies,infant,infants,newborn "
    "teenager=teen,teens,teenagers student=students pensioner=pensioners,senior,seniors,elderly,retired",
    "man=men,mens,male woman=women,womens,female",
    "husband wife partner=spouse mother=mum,mom father=dad parent=parents grandparent=grandparents",
    "member=members non-member=non-members,nonmember,nonmembers guest=guests visitor=visitors",
    "employee=employees,staff,worker,workers employer=employers,boss self-employed=freelance,freelancer,freelancers "
    "contractor=contractors",
    "landlord=landlords tenant=tenants,renter,renters,renting,rented owner=owners,own,homeowner",
    "admin=administrator,administrators,admins individual=personal,private,personally business=company,corporate,"
    "commercial,businesses charity=charities",
    "single=sole joint=shared,jointly couple=couples family=families group=groups",
    # what of it
    "pro=professional basic=starter,free premium=plus enterprise standard=regular economy first-class",
    "home=house,household car=vehicle,motor travel=holiday,trip pet=dog,cat phone=mobile laptop=computer,pc",
    "debit credit prepaid savings=saving",
    "domestic=national,inland international=overseas,abroad,foreign local=nearby",
    "old=existing new",
)
"""Groups of words that exclude each other, ``=`` before the synonyms. Both texts must have the same of each group."""

_LOOSE_SCOPES = (
    "my=mine,our,ours,myself their=theirs,his,her,hers,someone,somebody,else,friend,friends",
    "app web=website,browser desktop phone=telephone post=mail,letter email=e-mail,mailing person=branch",
)
"""Likewise, but a text may have none of them: whose it is, or by which way, often goes without saying."""


def _scopes(groups: tuple[str, ...]) -> dict[str, frozenset[tuple[int, str]]]:
    known: dict[str, set[tuple[int, str]]] = {}
    for group, words in enumerate(groups):
        for entry in words.split():
            word, _, others = entry.partition("=")
            for each in [word, *(others.split(",") if others else ())]:
                known.setdefault(each, set()).add((group, word))
    return {word: frozenset(meanings) for word, meanings in known.items()}


SCOPES: Mapping[str, frozenset[tuple[int, str]]] = _scopes(_SCOPES)
"""Words that say for whom, when or how much: the groups that a word belongs to, and its meaning there."""
LOOSE_SCOPES: Mapping[str, frozenset[tuple[int, str]]] = _scopes(_LOOSE_SCOPES)

CONTRACTIONS: Mapping[str, str] = {
    "can't": "can not",
    "cannot": "can not",
    "won't": "will not",
    "shan't": "shall not",
    "ain't": "is not",
}
