"""Dockerfile, compose, Prometheus, Grafana and docs/metrics.md: consistent with the code and with each other."""

import inspect
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry

from config.processors import ProcessorsConfig
from streams.durable.metrics import DurableMetrics
from streams.events.name_cache import NameCaches
from streams.jobs.metrics import JobMetrics
from streams.ordering.metrics import OrderMetrics
from streams.process.garbage import GarbagePauses
from streams.process.version import VERSION
from streams.processors.exposures import Label
from streams.processors.metrics import NotificationMetrics, ProcessorMetrics
from streams.reading.metrics import EngineMetrics
from streams.server.metrics import ServingMetrics

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "config" / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "murmuration.json"

#: Sample names by metric type, as suffixes of the family's name.
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "info": ("_info",), "histogram": ("_bucket", "_sum", "_count")}


def load_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def instructions(text: str) -> list[tuple[str, str]]:
    """Dockerfile instructions in order, continuation lines joined, comments left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [(word.upper(), rest.strip()) for word, _, rest in (x.partition(" ") for x in joined.splitlines()) if word]


def stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """Instructions by stage name, FROM included."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions(text):
        if word == "FROM":
            _, _, name = rest.split()
            found[name] = []
        found[next(reversed(found))].append((word, rest))
    return found


@pytest.fixture(scope="module")
def dockerfile() -> dict[str, list[tuple[str, str]]]:
    return stages((ROOT / "Dockerfile").read_text())


def words_of(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [rest for w, rest in stage if w == word]


def env_of(*parts: list[tuple[str, str]]) -> dict[str, str]:
    pairs = (pair for part in parts for rest in words_of(part, "ENV") for pair in shlex.split(rest))
    return dict(pair.split("=", 1) for pair in pairs)


class TestDockerfile:
    def test_bases_are_exact(self, dockerfile):
        bases = [words_of(stage, "FROM")[0].split()[0] for stage in dockerfile.values()]
        outside = [base for base in bases if base not in dockerfile and "${" not in base]
        assert outside
        for base in outside:
            assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base), base

    def test_both_processors_have_a_stage(self, dockerfile):
        assert words_of(dockerfile["image"], "FROM") == ["runtime-${TARGETARCH} AS image"]
        assert {"runtime-amd64", "runtime-arm64"} <= dockerfile.keys()

    def test_dependencies_are_checked_by_hash_and_nothing_else_is_fetched(self, dockerfile):
        installs = [shlex.split(run) for stage in dockerfile.values() for run in words_of(stage, "RUN") if "pip" in run]
        assert len(installs) == 2
        locked, own = installs
        assert {"--require-hashes", "-r", "requirements.lock"} <= set(locked)
        assert {"--no-deps", "--no-build-isolation", "."} <= set(own)

    def test_nothing_is_fetched_as_root_script(self, dockerfile):
        runs = [run for stage in dockerfile.values() for run in words_of(stage, "RUN")]
        assert not [run for run in runs if re.search(r"\b(curl|wget|apt-get)\b", run)]
        assert not [rest for stage in dockerfile.values() for rest in words_of(stage, "ADD")]

    def test_runs_as_somebody_without_rights(self, dockerfile):
        (user,) = words_of(dockerfile["image"], "USER")
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
        assert f"--uid {user.partition(':')[0]} " in words_of(dockerfile["runtime"], "RUN")[0]

    def test_kernels_are_compiled_after_everything_is_in_place(self, dockerfile):
        final = dockerfile["image"]
        order = [word for word, _ in final]
        (warm,) = [i for i, (word, rest) in enumerate(final) if word == "RUN" and "compile_kernels()" in rest]
        assert warm > max(i for i, word in enumerate(order) if word == "COPY")
        assert warm > order.index("USER"), "the cache has to be writable for the user that runs"
        assert "ENV" not in order[warm:], "the cache is keyed by the environment"

    def test_the_warm_up_it_calls_exists(self, dockerfile):
        from streams.live.compilation import compile_kernels

        (run,) = words_of(dockerfile["image"], "RUN")
        assert shlex.split(run) == [
            "python",
            "-c",
            f"from {compile_kernels.__module__} import compile_kernels; compile_kernels()",
        ]
        inspect.signature(compile_kernels).bind()

    def test_environment(self, dockerfile):
        env = env_of(dockerfile["runtime"], dockerfile["runtime-amd64"])
        assert env["NUMBA_CPU_NAME"] == "x86-64-v3"
        assert env["NUMBA_CPU_FEATURES"] == ""
        assert env["NUMBA_CACHE_DIR"].startswith("/")
        assert env["NUMBA_CACHE_DIR"] in words_of(dockerfile["runtime"], "RUN")[0]
        assert_config_environment(env)

    def test_commands(self, dockerfile):
        final = dockerfile["image"]
        assert [json.loads(rest) for rest in words_of(final, "ENTRYPOINT")] == [["murmuration"]]
        assert [json.loads(rest) for rest in words_of(final, "CMD")] == [["serve"]]
        (check,) = words_of(final, "HEALTHCHECK")
        program = json.loads(check[check.index("CMD ") + 4 :])[2]
        compile(program, "Dockerfile", "exec")
        assert "/healthz" in program

    def test_context_has_what_is_copied(self, dockerfile):
        allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        copied = [shlex.split(rest)[:-1] for rest in words_of(dockerfile["build"], "COPY")]
        assert {name for names in copied for name in names} == allowed
        for name in allowed:
            assert (ROOT / name).exists()


def assert_config_environment(environ: dict[str, str], path: Path | None = None) -> Any:
    """The MURMURATION__… variables name real keys; they are enough to serve when a key is given."""
    from config.load import load
    from streams.server.auth import check_serving

    own = {name: value for name, value in environ.items() if name.startswith("MURMURATION__")}
    assert own
    config = load(path, {**own, "MURMURATION__SERVING__TOKEN_KEY": "k" * 64})
    check_serving(config.serving)
    assert config.serving.host == "0.0.0.0"
    return config


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return load_yaml(COMPOSE)["services"]


class TestCompose:
    def test_images_are_exact(self, services):
        for name, service in services.items():
            tag = service["image"].rpartition(":")[2]
            assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), f"{name}: {service['image']}"
        assert services["engine"]["image"] == f"murmuration:{VERSION}"

    def test_kafka_is_the_one_that_the_tests_run(self, services):
        pom = (ROOT / "tests" / "support" / "pom.xml").read_text()
        version = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([\d.]+)<", pom)
        assert version is not None
        assert services["kafka"]["image"] == f"apache/kafka:{version[1]}"

    def test_files_exist(self, services):
        for service in services.values():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("."):
                    assert (DEPLOY / source).exists(), source
                else:
                    assert source in load_yaml(COMPOSE)["volumes"]
        build = services["engine"]["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == ROOT / "Dockerfile"

    def test_only_loopback_is_open(self, services):
        ports = [port for service in services.values() for port in service.get("ports", [])]
        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)

    def test_each_waits_for_what_it_needs(self, services):
        assert services["engine"]["depends_on"]["kafka"]["condition"] == "service_healthy"
        for service in services.values():
            for name, wait in service.get("depends_on", {}).items():
                assert name in services
                checked = "healthcheck" in services[name] or name == "engine"
                assert checked or wait["condition"] == "service_started"

    def test_the_engine_can_be_configured_so(self, services, dockerfile):
        environ = {
            **env_of(dockerfile["runtime"]),
            **{name: value for name, value in services["engine"]["environment"].items() if "${" not in value},
        }
        config = assert_config_environment(environ, DEPLOY / "murmuration.toml")
        assert config.log.url == "kafka://kafka:9092"
        assert config.serving.drain_timeout_s < int(services["engine"]["stop_grace_period"].removesuffix("s"))

        from streams.log.kafka.options import parse_options

        assert parse_options(config.log).servers == "kafka:9092"

    def test_agents_share_the_engines_image_log_and_file(self, services):
        from config.load import load

        engine, agents = services["engine"], services["agents"]
        assert (agents["image"], agents["volumes"]) == (engine["image"], engine["volumes"])
        assert agents["command"] == ["agents", *engine["command"][1:]]
        config = load(DEPLOY / "murmuration.toml", agents["environment"])
        assert config.log.url == engine["environment"]["MURMURATION__LOG__URL"]
        assert config.processors.agents_host == "0.0.0.0"
        assert config.processors.run_in == "auto"

    def test_no_secret_is_in_the_file(self, services):
        environment = services["engine"]["environment"]
        assert environment["MURMURATION__SERVING__TOKEN_KEY"].startswith("${MURMURATION_TOKEN_KEY:?")
        for service in services.values():
            for name, value in service.get("environment", {}).items():
                assert not re.search("PASSWORD|SECRET|TOKEN_KEY", name) or value.startswith("${"), name

    def test_prometheus_and_grafana_find_each_other(self, services):
        prometheus = load_yaml(DEPLOY / "prometheus" / "prometheus.yml")
        jobs = {job.pop("job_name"): job for job in prometheus["scrape_configs"]}
        assert jobs["murmuration"] == {"static_configs": [{"targets": ["engine:8400"]}]}
        port = ProcessorsConfig().agents_port
        assert jobs["murmuration-agents"] == {"dns_sd_configs": [{"names": ["agents"], "type": "A", "port": port}]}
        assert f"127.0.0.1:{port}/healthz" in services["agents"]["healthcheck"]["test"][-1]
        assert prometheus["rule_files"] == [ALERTS.name]
        (source,) = load_yaml(DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")["datasources"]
        assert source["url"] == "http://prometheus:9090"
        (provider,) = load_yaml(DEPLOY / "grafana/provisioning/dashboards/murmuration.yaml")["providers"]
        assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]


@pytest.fixture(scope="module")
def registered() -> dict[str, set[str]]:
    """Sample names by the type of the metric, of everything that the process registers."""
    registry = CollectorRegistry()
    EngineMetrics(registry).rooms.show({"room": (1, {"slots": 0.5}, {"added": 1})})
    ServingMetrics(registry)
    registry.register(GarbagePauses())
    registry.register(NameCaches())
    DurableMetrics(registry)
    JobMetrics(registry)
    OrderMetrics(registry)
    ProcessorMetrics(registry)
    NotificationMetrics(registry)
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        found.setdefault(family.type, set()).update(family.name + suffix for suffix in SUFFIXES[family.type])
    return found


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bmurmuration_[a-z0-9_]+", text))


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in load_yaml(ALERTS)["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """Every PromQL expression, by where it is."""
    found = {rule["alert"]: rule["expr"] for rule in alert_rules()}
    return found | {f"{p['title']} {t['refId']}": t["expr"] for p in panels() for t in p["targets"]}


class TestMetrics:
    def test_expressions_name_metrics_that_exist(self, registered):
        everything = set().union(*registered.values())
        for where, expression in expressions().items():
            assert names_in(expression) <= everything, where

    def test_expressions_treat_metrics_by_their_type(self, registered):
        for where, expression in expressions().items():
            for quantile in re.findall(r"histogram_quantile\(.*?(murmuration_\w+)", expression):
                assert quantile.endswith("_bucket"), where
            for name in registered["counter"] & names_in(expression):
                assert "rate(" in expression or "increase(" in expression, f"{where}: a counter's bare value: {name}"

    def test_labels_in_expressions_exist(self):
        documented = {
            row[1]: set(re.findall(r"`(\w+)`", row[2]))
            for row in re.finditer(r"^\| `(\w+)` \| \w+ \| (.*?) \|", (ROOT / "docs/metrics.md").read_text(), re.M)
        }
        always = {"le", "job", "instance"}
        for where, expression in expressions().items():
            names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names_in(expression)}
            known = always.union(*(documented[name] for name in names))
            grouped = re.findall(r"by \(([^)]*)\)", expression) + re.findall(r"on \(([^)]*)\)", expression)
            asked = {label.strip() for group in grouped for label in group.split(",")}
            asked |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|=)", expression))
            assert asked <= known, where

    def test_the_page_lists_every_metric_and_no_other(self, registered):
        page = (ROOT / "docs" / "metrics.md").read_text()
        rows = dict(re.findall(r"^\| `(murmuration_\w+)` \| (\w+) \|", page, re.M))
        families = {
            re.sub(r"_bucket$", "", name): "gauge" if kind == "info" else kind
            for kind, names in registered.items()
            for name in names
            if not (kind == "histogram" and name.endswith(("_sum", "_count")))
        }
        assert rows == families

    def test_labels_on_the_page_are_the_metrics_labels(self):
        registry = CollectorRegistry()
        made = (EngineMetrics, ServingMetrics, ProcessorMetrics, NotificationMetrics, OrderMetrics, JobMetrics)
        parts = [metrics(registry) for metrics in made]
        metrics = [metric for part in parts for metric in vars(part).values()]
        page = (ROOT / "docs" / "metrics.md").read_text()
        rows = {
            row[1].removesuffix("_total"): tuple(re.findall(r"`(\w+)`", row[2]))
            for row in re.finditer(r"^\| `(\w+)` \| \w+ \| (.*?) \|", page, re.M)
        }
        checked = 0
        for metric in metrics:
            if hasattr(metric, "_labelnames"):
                name = metric._name
                assert rows[name] == metric._labelnames, name
                checked += 1
        assert checked > 20
        assert rows["murmuration_exposures"] == Label._fields


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


class TestDashboard:
    def test_it_is_bound_to_no_installation(self, dashboard):
        assert dashboard["schemaVersion"] == 41
        assert "id" not in dashboard
        assert "uid" not in dashboard
        assert dashboard["templating"]["list"][0]["type"] == "datasource"
        sources = re.findall(r'"uid": "([^"]*)"', json.dumps(dashboard))
        assert set(sources) == {"${datasource}"}

    def test_panels_are_whole_and_do_not_overlap(self, dashboard):
        cells: set[tuple[int, int]] = set()
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            own = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
            assert not own & cells, panel["title"]
            cells |= own
        for panel in panels():
            assert panel["description"]
            assert panel["targets"]

    def test_variables_are_defined(self, dashboard):
        known = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval", "__all"}
        assert set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard))) <= known

    def test_every_metric_that_people_look_for_is_shown(self, registered):
        shown = {re.sub(r"_bucket$", "", name) for panel in panels() for name in names_in(json.dumps(panel))}
        wanted = {
            re.sub(r"_bucket$", "", name)
            for kind, names in registered.items()
            for name in names
            if not (kind == "histogram" and name.endswith(("_sum", "_count")))
        }
        assert shown == wanted


class TestAlerts:
    def test_every_alert_is_explained(self):
        page = (ROOT / "docs" / "operations.md").read_text()
        for rule in alert_rules():
            assert f"`{rule['alert']}`" in page
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"]["summary"]
        assert set(re.findall(r"`(Murmuration[A-Z]\w+)`", page)) == {rule["alert"] for rule in alert_rules()}

    def test_the_rooms_they_watch_have_what_they_watch(self):
        from engine.social_graph.state import COUNTERS, SocialGraph

        (dropping,) = [r["expr"] for r in alert_rules() if r["alert"] == "MurmurationSocialGraphDropping"]
        pattern = re.search(r'what=~"([^"]+)"', dropping)
        assert pattern is not None
        dropped = {name for name in COUNTERS if name.startswith("dropped")}
        assert {name for name in COUNTERS if re.fullmatch(pattern[1], name)} == dropped != set()
        assert f'room="{SocialGraph.name}"' in dropping

    def test_limits_are_the_defaults(self):
        from config.serving import ServingConfig

        limit = f"> {ServingConfig().ready_lag_records_max}"
        (behind,) = [rule for rule in alert_rules() if rule["alert"] == "MurmurationBehindLog"]
        assert behind["expr"].endswith(limit)

    @pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH: the alert rules are not tried")
    def test_rules_fire_when_they_should(self):
        for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
            done = subprocess.run(
                ["promtool", *command], cwd=ALERTS.parent, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr


class TestOperationsPage:
    PAGE = (ROOT / "docs" / "operations.md").read_text()

    def block(self, language: str) -> str:
        found = re.search(rf"```{language}\n(.*?)```", self.PAGE, re.S)
        assert found is not None
        return found[1]

    def test_the_token_it_signs_is_accepted(self, monkeypatch, capsys):
        from config.serving import ServingConfig
        from streams.server.auth import Authenticator

        monkeypatch.setenv("MURMURATION__SERVING__TOKEN_KEY", "k" * 32)
        exec(self.block("python"), {})
        identity = Authenticator(ServingConfig(auth="token", token_key="k" * 32)).verify(
            capsys.readouterr().out.strip()
        )
        assert identity.viewer_id == 42
        assert not identity.publisher

    def test_the_kafka_configuration_is_one(self, tmp_path):
        from config.load import load

        path = tmp_path / "kafka.toml"
        path.write_text(self.block("toml"))
        config = load(path, {})
        assert config.log.url.startswith("kafka://")

        from streams.log.kafka.options import parse_options

        without_file = {k: v for k, v in config.log.kafka.items() if k != "ssl_cafile"}
        assert parse_options(msgspec.structs.replace(config.log, kafka=without_file)).replication_factor == 3

    def test_the_keys_and_figures_it_names_exist(self):
        from config.schema import Config
        from streams.server.served_log import ServedLog
        from streams.server.websocket import IN_FLIGHT_MAX, WAITING_MAX

        for path in set(re.findall(r"`((?:log|ingest|serving|rooms|home_mixer)(?:\.[a-z_]+)+)", self.PAGE)):
            node: Any = Config()
            for name in path.rstrip(".").split("."):
                assert hasattr(node, name), path
                node = getattr(node, name)
        assert f"{IN_FLIGHT_MAX + WAITING_MAX} in flight" in self.PAGE
        feeds_max = inspect.signature(ServedLog).parameters["feeds_max"].default
        assert f"{feeds_max:,} feeds" in self.PAGE
