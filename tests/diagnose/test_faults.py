"""What the doctor finds in small real services, each with one fault, and that it finds nothing in healthy ones."""

from __future__ import annotations

import json
import time

import pytest

from jupyter_portproxy.diagnose.rules import RULES

from .faulty_services import FAULTY, HEALTHY, KINDS, Small, running
from .unusual_services import FAULTY_TOO, HEALTHY_TOO

SECONDS = 30.0


@pytest.fixture(params=["/a%40b/", "/"])
def jp_base_url(request):
    return request.param


@pytest.fixture
def diagnose(call, origin):
    """Runs the doctor through a real Jupyter server; the findings, the worst first."""

    async def run(service: Small) -> list[dict[str, object]]:
        async with running(service) as seen:
            fields = [field.replace("{origin}", origin) for field in service.caller]
            content = json.dumps({"port": seen.port, "path": service.path}).encode()
            response = await call("proxy/api/diagnose", method="POST", fields=fields, content=content)
            report = json.loads(response.content)
            assert response.status == 200, report
            return json.loads(json.dumps(report["findings"]).replace(str(seen.port), "{port}"))

    return run


def complaint_of(service: Small, findings: list[dict[str, object]]) -> str:
    """What is wrong with the findings; empty if they are right."""
    if not findings or (service.rule != "*" and findings[0]["rule"] != service.rule):
        return f"{service.name}: {[finding['rule'] for finding in findings]}, not {service.rule}"
    first = findings[0]
    if service.words not in str(first["sentence"]):
        return f"{service.name}: {first['sentence']}"
    if service.remedy not in "\n".join(first["remedies"]):  # type: ignore[arg-type]
        return f"{service.name}: {first['remedies']}"
    return "" if first["evidence"]["excerpt"] or first["evidence"]["file"] else f"{service.name}: no evidence"  # type: ignore[index]


@pytest.mark.timeout(60)
async def test_each_fault_is_found_first_with_its_remedy(diagnose):
    started = time.monotonic()
    complaints = [complaint_of(service, await diagnose(service)) for service in FAULTY]
    assert "\n".join(filter(None, complaints)) == ""
    assert time.monotonic() - started < SECONDS


@pytest.mark.timeout(60)
async def test_faults_of_the_same_kinds_are_found_in_other_forms(diagnose):
    complaints = [complaint_of(service, await diagnose(service)) for service in KINDS + FAULTY_TOO]
    assert "\n".join(filter(None, complaints)) == ""


def test_every_rule_has_a_service_in_which_it_is_the_first_finding():
    assert {rule.id for rule in RULES} == {service.rule for service in FAULTY + KINDS} - {"*"}


@pytest.mark.timeout(60)
async def test_nothing_is_found_in_healthy_services(diagnose):
    assert {service.name: found for service in HEALTHY + HEALTHY_TOO if (found := await diagnose(service))} == {}
