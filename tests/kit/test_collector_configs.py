"""What must hold of the shipped configs of the collector and of the compose file, without any program."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from seatrace.emit import semconv
from seatrace.emit.catalogue import AGENT_SECONDS, CATALOGUE, SECONDS

FOLDER = Path(__file__).resolve().parents[2] / "collector"
FILES = sorted(each for each in FOLDER.glob("*.yaml") if each.stem not in ("builder", "compose"))
OVERLAYS = [each.stem for each in FILES if each.stem != "gateway"]
KINDS = ("receivers", "processors", "exporters", "connectors", "extensions")

FORMER_NAMES = {
    *("otlp", "otlphttp", "loadbalancing", "prometheusremotewrite"),  # exporters
    *("spanmetrics", "servicegraph", "signaltometrics"),  # connectors
    *("deltatocumulative", "genainormalizer", "batch"),  # processors
}
"""Names that the collector knows no more, or has promised to forget."""


def read(name: str) -> dict[str, Any]:
    """A file of the folder."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return found


def merged(*overlays: str) -> dict[str, Any]:
    """The gateway with overlays on it, as the collector puts them together: maps are merged, lists replaced."""
    found = read("gateway")
    for overlay in overlays:
        _merge(found, read(overlay))
    return found


def _merge(into: dict[str, Any], what: dict[str, Any]) -> None:
    for key, value in what.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def texts(found: object) -> list[str]:
    """Every text in a config."""
    if isinstance(found, dict):
        return [text for each in found.values() for text in texts(each)]
    if isinstance(found, list):
        return [text for each in found for text in texts(each)]
    return [found] if isinstance(found, str) else []


EVERY = pytest.mark.parametrize("overlays", [(), *((each,) for each in OVERLAYS), tuple(OVERLAYS)], ids="+".join)


@EVERY
def test_the_memory_limiter_is_first_in_every_pipeline(overlays: tuple[str, ...]) -> None:
    pipelines = merged(*overlays)["service"]["pipelines"]
    assert {each["processors"][0] for each in pipelines.values()} == {"memory_limiter"}


@EVERY
def test_what_a_pipeline_names_is_defined_and_every_extension_is_on(overlays: tuple[str, ...]) -> None:
    config = merged(*overlays)
    connectors = set(config["connectors"])
    for pipeline in config["service"]["pipelines"].values():
        assert set(pipeline["receivers"]) <= set(config["receivers"]) | connectors
        assert set(pipeline["processors"]) <= set(config["processors"])
        assert set(pipeline["exporters"]) <= set(config["exporters"]) | connectors
    assert set(config["service"]["extensions"]) == set(config["extensions"])


@EVERY
def test_a_connector_is_used_at_both_ends(overlays: tuple[str, ...]) -> None:
    config = merged(*overlays)
    pipelines = config["service"]["pipelines"].values()
    for connector in config["connectors"]:
        assert any(connector in each["exporters"] for each in pipelines)
        assert any(connector in each["receivers"] for each in pipelines)


@EVERY
def test_whatever_leaves_over_the_network_is_queued_on_disk_and_tried_until_it_is_taken(
    overlays: tuple[str, ...],
) -> None:
    config = merged(*overlays)
    sending = {name: each for name, each in config["exporters"].items() if re.match("otlp_|load_balancing", name)}
    assert sending
    for exporter in sending.values():
        assert exporter["sending_queue"]["storage"] in config["service"]["extensions"]
        assert exporter["sending_queue"]["queue_size"] < config["extensions"]["file_storage/queue"]["max_size"]
        assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_listens_on_more_than_loopback_by_default(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    assert not [text for text in texts(config) if "0.0.0.0" in text or "[::]" in text]
    addresses = [text for text in texts(config) if re.search(r":\d{4,5}", text)]
    assert all("127.0.0.1" in text for text in addresses), addresses


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_components_have_their_present_names(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    for kind in KINDS:
        names = {name.partition("/")[0] for name in config.get(kind, {})}
        assert names & (FORMER_NAMES - ({"otlp"} if kind == "receivers" else set())) == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_statements_of_one_group_speak_of_one_thing(file: Path) -> None:
    """The collector runs a group once for each of the innermost things that it names: once for each event of a span,
    say, so that nothing happens to spans without one."""
    for name, processor in yaml.safe_load(file.read_text()).get("processors", {}).items():
        if name.startswith("transform/"):
            groups = [each for key, value in processor.items() if key.endswith("_statements") for each in value]
            assert groups
            assert all(isinstance(each, dict) and "context" in each for each in groups), name


def test_nothing_is_copied_from_an_attribute_that_may_not_be_there() -> None:
    for text in texts(read("normalize")["processors"]):
        if found := re.match(r'set\(span\.attributes\["[^"]+"\], span\.attributes\["([^"]+)"\]\) where (.*)', text):
            assert f'span.attributes["{found[1]}"] != nil' in found[2]


def test_the_patterns_of_secrets_are_of_no_name_of_the_conventions() -> None:
    patterns = read("gateway")["processors"]["redaction"]["blocked_key_patterns"]
    names = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
    assert [name for name in names for pattern in patterns if re.search(pattern, name)] == []


def test_the_patterns_of_secrets_begin_with_a_literal() -> None:
    redaction = read("gateway")["processors"]["redaction"]
    for pattern in (*redaction["blocked_key_patterns"], *redaction["blocked_values"]):
        assert re.match(r"[A-Za-z_-]{3}", pattern), f"{pattern}: Go looks for everything else fifty times slower"


def test_sampling_asks_for_attributes_that_seatrace_sets() -> None:
    conditions = " ".join(texts(read("gateway")["processors"]["tail_sampling"]))
    asked = set(re.findall(r'attributes\["([^"]+)"\]', conditions))
    assert asked == {semconv.USAGE_COST_AMOUNT, semconv.RUN_COST, semconv.LOOP_REASON}


def test_metrics_that_are_made_of_spans_are_those_of_the_catalogue() -> None:
    rows = {metric.name: metric for metric in CATALOGUE}
    for made in read("normalize")["connectors"]["signal_to_metrics/normalized"]["spans"]:
        row = rows[made["name"]]
        assert made["unit"] == row.unit
        assert {each["key"] for each in made["attributes"]} <= set(row.attributes)
        if "histogram" in made:
            assert tuple(made["histogram"]["buckets"]) == row.buckets
            assert row.buckets in (SECONDS, AGENT_SECONDS)
        else:
            assert (row.kind, made["sum"]["monotonic"]) == ("counter", True)


def test_a_secure_receiver_asks_for_certificate_and_token_on_both_protocols() -> None:
    config = merged("secure")
    for protocol in config["receivers"]["otlp"]["protocols"].values():
        assert protocol["auth"]["authenticator"] in config["service"]["extensions"]
        assert protocol["tls"].keys() >= {"cert_file", "key_file", "min_version"}


def test_the_distribution_is_pinned_and_whole() -> None:
    manifest = read("builder")
    modules = [each["gomod"].split() for kind in (*KINDS, "providers") for each in manifest[kind]]
    versions = {version for name, version in modules if "/confmap/" not in name}
    assert versions == {f"v{manifest['dist']['version']}"}
    assert f"cmd/builder@v{manifest['dist']['version']}" in (FOLDER / "build").read_text()


def test_every_variable_is_documented_and_no_other() -> None:
    read_by_configs = {name for file in FILES for name in re.findall(r"env:(SEATRACE_\w+):-", file.read_text())}
    page = (FOLDER.parent / "docs/collector.md").read_text()
    table = page[page.index("| Variable |") : page.index("## Which traces")]
    documented = {
        name
        for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(SEATRACE_\w+)`", cell)
    }
    assert documented == read_by_configs


def test_every_overlay_is_documented() -> None:
    page = (FOLDER.parent / "docs/collector.md").read_text()
    assert [each for each in OVERLAYS if f"`{each}.yaml`" not in page] == []


# --- compose ----------------------------------------------------------------------------------------------------------

COMPOSE = read("compose")["services"]


def test_ports_are_open_on_this_machine_only() -> None:
    ports = [port for service in COMPOSE.values() for port in service["ports"]]
    assert len(ports) >= 5
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned() -> None:
    images = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", service["image"]) for service in COMPOSE.values()]
    assert all(re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", image) for image in images), images
    assert re.match("prom/prometheus:v3", COMPOSE["prometheus"]["image"])
    version = read("builder")["dist"]["version"]
    assert COMPOSE["collector"]["image"].endswith(f"collector-contrib:{version}}}")


def test_everything_that_is_mounted_is_there() -> None:
    for service in COMPOSE.values():
        for mount in service["volumes"]:
            source, target, *_ = mount.split(":")
            if source.startswith("."):
                assert (FOLDER / source).exists(), mount
            else:
                assert source in read("compose")["volumes"], mount
            assert target.startswith("/")


def test_files_that_programs_are_told_of_are_mounted() -> None:
    for name, service in COMPOSE.items():
        mounts = {target: source for source, target, *_ in (mount.split(":") for mount in service["volumes"])}
        told = re.findall(r"config(?:\.file)?=(\S+)", " ".join(service.get("command", [])))
        for path in told:
            at = next(target for target in mounts if path.startswith(target))
            assert (FOLDER / (mounts[at] + path[len(at) :])).is_file(), f"{name}: {path}"
    home = COMPOSE["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (FOLDER.parent / "dashboards/grafana" / Path(home).name).is_file()


def test_the_collector_reads_every_variable_that_it_is_given() -> None:
    text = (FOLDER / "gateway.yaml").read_text()
    given = set(COMPOSE["collector"]["environment"]) - {"GOMEMLIMIT"}
    assert {name for name in given if f"env:{name}:-" not in text} == set()


def test_services_are_found_under_the_names_that_others_use() -> None:
    files = [FOLDER / "compose.yaml", *FOLDER.glob("provisioning/**/*.yaml")]
    addresses = {
        found for file in files for found in re.findall(r"(?:http://|\"|: )([a-z]+):\d{4,5}\b", file.read_text())
    }
    assert addresses - {"localhost"} == set(COMPOSE) - {"grafana"}


def test_exemplars_lead_to_the_traces_of_the_same_box() -> None:
    found = read("provisioning/grafana/datasources/seatrace")["datasources"]
    by_uid = {each["uid"]: each for each in found}
    (link,) = by_uid["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert (link["name"], by_uid[link["datasourceUid"]]["type"]) == ("trace_id", "tempo")


def test_prometheus_takes_pushed_metrics_exemplars_and_the_rules() -> None:
    command = COMPOSE["prometheus"]["command"]
    assert {"--web.enable-otlp-receiver", "--enable-feature=exemplar-storage"} <= set(command)
    config = read("provisioning/prometheus/prometheus")
    (pattern,) = config["rule_files"]
    files = [each.name for each in (FOLDER.parent / "dashboards/rules").glob(Path(pattern).name)]
    assert files == ["seatrace.rules.yaml"]
    assert config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["alertmanager:9093"]


def test_the_build_script_is_one_that_bash_reads() -> None:
    assert subprocess.run(["bash", "-n", FOLDER / "build"]).returncode == 0
