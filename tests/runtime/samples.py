"""Texts with the number of tokens that real tokenizers found in them: o200k_base, and ctok 1.3.0 for Claude."""

import base64
import json
from random import Random

_R = Random(3)

TEXTS = {
    "english": (
        "The harbour master keeps a ledger of every ship that enters. When the tide turns at noon, the pilot boat goes "
        "out to meet the freighter and leads it through the narrow channel. If the order is delayed, apologise."
    ),
    "german": (
        "Der Hafenmeister führt ein Verzeichnis aller Schiffe, die einlaufen. Die Geschwindigkeitsbegrenzung im "
        "Hafenbecken beträgt fünf Knoten; Zuwiderhandlungen werden geahndet."
    ),
    "chinese": "港务长记录每一艘进港的船只。中午潮水转向时，引航船驶出去迎接货轮，并带领它穿过狭窄的航道。",
    "hindi": "बंदरगाह का अधिकारी आने वाले हर जहाज़ का हिसाब रखता है। किसी को ऐसा साल याद नहीं जब कोहरा इतनी जल्दी आया हो।",
    "json": json.dumps(
        [
            {"order_id": f"ORD-{_R.randrange(10**8)}", "qty": at, "unitPrice": round(_R.random() * 100, 2)}
            for at in range(12)
        ]
    ),
    "log": "\n".join(
        f"2026-11-22T10:{at:02d}:13.{_R.randrange(1000):03d}Z INFO [worker-{at}] status=200 path=/v1/chat/completions"
        for at in range(12)
    ),
    "code": "\n".join(
        f"    def method_{at}(self, value: int = {at}) -> str:\n        return self._cache.get(value) or str(value)\n"
        for at in range(8)
    ),
    "base64": base64.b64encode(_R.randbytes(600)).decode(),
}

COUNTS = {
    "english": (45, 70),
    "german": (41, 91),
    "chinese": (44, 53),
    "hindi": (32, 76),
    "json": (313, 421),
    "log": (395, 491),
    "code": (232, 295),
    "base64": (542, 756),
}
"""Tokens for OpenAI and for Claude."""
