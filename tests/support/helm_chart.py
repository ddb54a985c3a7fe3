"""The part of Zero to JupyterHub's values that the documentation uses, as a JSON schema.

Unknown keys are refused: look a new key of the documentation up in the chart's own `jupyterhub/values.schema.yaml`
(github.com/jupyterhub/zero-to-jupyterhub-k8s, version 4), by which `helm` refuses values too. Below `egress` the schema is that
of Kubernetes' NetworkPolicyEgressRule (networking.k8s.io/v1).
"""

from __future__ import annotations

from typing import Any

TEXT, WHOLE, TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
PORT = {"type": ["integer", "string"]}


def mapping(*required: str, **properties: Any) -> dict[str, Any]:
    """An object with these keys and no others."""
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def list_of(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def texts() -> dict[str, Any]:
    """Labels or annotations: a number is none of them, it must be in quotes."""
    return {"type": "object", "additionalProperties": TEXT}


FILE = {
    **mapping("mountPath", mountPath=TEXT, data={"type": "object"}, stringData=TEXT, binaryData=TEXT, mode={"type": "number"}),
    "oneOf": [{"required": [content]} for content in ("data", "stringData", "binaryData")],
}
PEER = {**mapping(podSelector=mapping(matchLabels=texts()), namespaceSelector=mapping(matchLabels=texts())), "minProperties": 1}
RULE = mapping(
    to=list_of(PEER),
    ports=list_of(mapping(port=PORT, endPort=WHOLE, protocol={"enum": ["TCP", "UDP", "SCTP"]})),
)
SCHEMA = mapping(
    singleuser=mapping(
        image=mapping("name", "tag", name=TEXT, tag=TEXT),
        extraFiles={"type": "object", "additionalProperties": FILE},
        networkPolicy=mapping(enabled=TRUTH, egress=list_of(RULE)),
    ),
    cull=mapping("enabled", enabled=TRUTH, timeout=WHOLE, maxAge=WHOLE),
    ingress=mapping("enabled", enabled=TRUTH, hosts=list_of(TEXT), annotations=texts()),
)
# What ingress-nginx writes into its nginx.conf for an annotation (its template `nginx.tmpl`); a time is in seconds.
INGRESS_NGINX = {
    "nginx.ingress.kubernetes.io/proxy-body-size": "client_max_body_size {};",
    "nginx.ingress.kubernetes.io/proxy-read-timeout": "proxy_read_timeout {}s;",
    "nginx.ingress.kubernetes.io/proxy-send-timeout": "proxy_send_timeout {}s;",
}
