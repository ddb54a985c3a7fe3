"""Which fields cross, and in what form. To the upstream: no credential of Jupyter in any form, no claims about the client, Host
and Origin as the service expects them. To the client: nothing that acts on the origin that a service shares with Jupyter, and
URLs mapped once. All else crosses byte for byte and in order, and inbound lists are never changed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jupyter_portproxy.protocol import headers
from jupyter_portproxy.protocol.credentials import ATTACH_TOKEN_START, remove_secret_parameters
from jupyter_portproxy.protocol.forwarded import ForwardedClient
from jupyter_portproxy.protocol.hop_header import HopHeader, parse_hop_header
from jupyter_portproxy.protocol.url_fields import REQUEST_URL_FIELDS, RESPONSE_URL_FIELDS
from jupyter_portproxy.protocol.urls import Upstream, parse_url

from ..support.cpu_time import takes_less_than
from ..support.tables import lines, rows, table

P = "/a%40b/proxy/port/8050"
STRIP, KEEP = (parse_url(f"/a%40b/proxy/{form}port/8050/x?q", "/a%40b/") for form in ("", "absolute/"))
UP = Upstream("localhost", 8050, ("127.0.0.1", "::1"))
LAB = Upstream("lab.example", 8050, ("10.0.0.7",))
WWW = Upstream("localhost", 80, ("127.0.0.1",))
OWN = "http://hub.example:8888"
SECRET, XSRF, LOGIN = "s3same+open", "2|xsrf|7", "a-configured-login"
TOKEN = "v1.token.websocket.jupyter.org"
CLIENT = headers.Client("10.0.0.9", "10.0.0.9", "http", "hub.example:8888", secrets=frozenset({SECRET, XSRF}), login_cookie=LOGIN)
BEHIND_PROXY = headers.Client("10.0.0.9", "127.0.0.1", "https", "hub.example", trusted=True)
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=30)


def words(text):
    return text.split()


def up(*fields, route=STRIP, upstream=UP, client=CLIENT, method="GET", keep_host=False):
    return headers.build_request_fields(list(fields), route, upstream, client, via="gw", method=method, keep_host=keep_host)


def crossed(*fields):
    """The part of `fields` that reaches the upstream, without the gateway's own fields."""
    said = up()
    return [field for field in up(*fields) if field not in said]


def down(*fields, route=STRIP, upstream=UP, client=CLIENT):
    return headers.build_response_fields(list(fields), route, upstream, client)


def values(fields, name):
    return [value for key, value in fields if key.lower() == name.lower()]


# ---- upwards: what crosses ----

HOP = words("Keep-Alive Proxy-Connection Proxy-Authenticate Proxy-Authorization TE Trailer Transfer-Encoding Upgrade")
RETOLD = ["Connection", "Content-Length", "Content_Length", "Transfer_Encoding", "Expect", "Proxy", "upgrade"]
IDENTITY_FIELDS = words("""
X-Forwarded-For X_Forwarded_For x.forwarded.for X-FORWARDED-HOST X-Forwarded-Server X-Forwarded-User Forwarded forwarded
X-Real-IP X_Real_IP x.real.ip True-Client-IP X-Client-IP CF-Connecting-IP Remote-User REMOTE_USER X-Remote-User X.Remote.User
X-Remote-Groups X-Auth-Request-Email X-WEBAUTH-USER X-ProxyContextPath X_ProxyContextPath X-Original-URL
Remote-Email Remote-Groups Remote-Name X-Authenticated-User X-Authenticated-Groups X-Authentik-Username X-Pomerium-Claim-Email
X-Goog-Authenticated-User-Email X-Goog-IAP-JWT-Assertion X-MS-CLIENT-PRINCIPAL-NAME X-Amzn-Oidc-Identity Cf-Access-Jwt-Assertion
Tailscale-User-Login X-Consumer-Username X-Vouch-User OIDC_CLAIM_email MELLON_uid Ssl-Client-Subject-Dn X-SSL-Client-Verify
Client-Cert X-Client-Cert X-Remote-Extra-Scopes X-Cluster-Client-IP X-Scheme X-Url-Scheme Front-End-Https X-Forwarded-Ssl
X-Forwarded-Scheme X-Original-Host X-Original-Proto X-Rewrite-URL X-Gradio-Server X-Forwarded-Client-Cert X-Envoy-External-Address
X-Remote-Uid Kubeflow-Userid WL-Proxy-SSL Fly-Client-IP X-ARR-ClientCert X-Endpoint-API-UserInfo X_Apigateway_Api_Userinfo
""")


@pytest.mark.parametrize("name", HOP + RETOLD)
def test_fields_of_the_clients_hop_stay_there(name):
    assert crossed((name, "x-lies"), ("X-App", "1")) == [("X-App", "1")]


@table("named -> name\nX-Hop -> x-hop\nx-hop -> X-Hop\na, X-HOP ,b -> X-Hop\nX_Hop -> X_Hop\nx.hop -> X.Hop")
def test_a_field_that_connection_names_stays_in_its_hop_both_ways(named, name):
    assert (crossed(("Connection", named), (name, "1")), down(("Connection", named), (name, "1"))) == ([], [])


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Prefix", "Forwarded", "Host", "Via"])
def test_connection_cannot_remove_the_fields_of_the_gateway(name):
    assert up(("Connection", name)) == up()


@pytest.mark.parametrize("name", IDENTITY_FIELDS)
def test_fields_that_identify_the_client_never_cross(name):
    assert up((name, "6.6.6.6")) == up()


OWN_NAMES = words("""
X-Original-Filename X-Role X-Email Client-IP X-User X-Username X-Groups X-Auth-User X-Auth-Token X-Original X-Remote-File X-Userid
X-Client-Certificate-Id X-JupyterHub-Version X-Forwarder Remote-Users-List X-Authentication X-Client X-Scheme-Color
""")


@pytest.mark.parametrize("name", OWN_NAMES)
def test_what_a_services_own_scripts_say_arrives(name):
    assert crossed((name, "a.csv")) == [(name, "a.csv")]
    assert headers.find_identity_fields([(name, "a.csv")]) == []


def test_the_names_of_dropped_identity_fields_are_found():
    sent = [("Remote-User", "eve"), ("X_Auth_Request_Email", "eve"), ("X-Forwarded-For", "6.6.6.6"), ("TE", "x"), ("X-App", "1")]
    assert headers.find_identity_fields(sent) == ["Remote-User", "X_Auth_Request_Email"]


NAMES = st.sampled_from(["Accept", "X-App", "x-app", "X_App", "Range", "DPoP", "If-Match"])


@given(st.lists(st.tuples(NAMES, PRINTABLE)))
def test_other_fields_cross_byte_for_byte_in_order_and_the_inbound_list_is_not_changed(fields):
    inbound = list(fields)
    outbound = headers.build_request_fields(inbound, STRIP, UP, CLIENT, via="gw")
    assert inbound == fields
    assert outbound[1 : len(fields) + 1] == fields  # after Host


# ---- upwards: Host, Origin, Referer ----


@pytest.mark.parametrize(("upstream", "host"), [(UP, "localhost:8050"), (Upstream("::1", 80, ("::1",)), "[::1]")])
def test_host_is_the_upstreams_and_the_only_one(upstream, host):
    out = up(("Accept", "*"), ("Host", "hub.example:8888"), ("host", "x"), ("HOST", "y"), upstream=upstream)
    assert out[:2] == [("Host", host), ("Accept", "*")] and out[2:] == up(upstream=upstream)[1:]


@table(f"""
name -> sent -> seen
Origin  -> {OWN}                               -> http://localhost:8050
Origin  -> HTTP://HUB.example:8888             -> http://localhost:8050
Origin  -> http://evil.example                 -> http://evil.example
Origin  -> {OWN}.evil.example                  -> {OWN}.evil.example
Origin  -> http://hub.example                  -> http://hub.example
Origin  -> null                                -> null
Referer -> {OWN}{P}/x?q=%2F                    -> http://localhost:8050/x?q=%2F
Referer -> {OWN}{P}                            -> http://localhost:8050/
Referer -> {OWN}{P}?q                          -> http://localhost:8050/?q
Referer -> {OWN}{P.replace("%40", "@")}/x@%40  -> http://localhost:8050/x@%40
Referer -> {OWN}/a%40b/lab/tree/thesis.ipynb?x -> http://localhost:8050/
Referer -> {OWN}{P}1/x                         -> http://localhost:8050/
Referer -> https://other.example/a?b           -> https://other.example/a?b
""")
def test_our_own_origin_becomes_the_upstreams(name, sent, seen):
    assert values(up((name, sent)), name) == [seen]


def test_where_the_prefix_is_kept_the_referer_keeps_it_too():
    referer = f"{KEEP.prefix}/x?q"
    assert values(up(("Referer", OWN + referer), route=KEEP), "Referer") == ["http://localhost:8050" + referer]


def test_host_origin_and_referer_stay_the_clients_where_the_administrator_wants_it():
    out = up(("Origin", OWN), ("Referer", f"{OWN}{P}/x?a&token=s3same%2Bopen"), keep_host=True)
    assert out[:3] == [("Host", "hub.example:8888"), ("Origin", OWN), ("Referer", f"{OWN}{P}/x?a")]


URLS = f"""
name -> sent -> seen
Destination         -> {OWN}{P}/d%20e?q            -> http://localhost:8050/d%20e?q
Destination         -> {OWN}{P}                    -> http://localhost:8050/
Destination         -> {P}/d                       -> /d
Destination         -> {OWN}{P}1/d                 -> {OWN}{P}1/d
Destination         -> {OWN}/a%40b/files/x         -> {OWN}/a%40b/files/x
Destination         -> {OWN}{P}/../../x            -> {OWN}{P}/../../x
Destination         -> /d                          -> /d
Destination         -> d                           -> d
Destination         -> https://else.example{P}/d   -> https://else.example{P}/d
If                  -> <{OWN}{P}/c> (<urn:a> ["e>)"]) (Not <urn:b>) <{P}/d> (<urn:c>) -> \
<http://localhost:8050/c> (<urn:a> ["e>)"]) (Not <urn:b>) </d> (<urn:c>)
If                  -> (<{OWN}{P}/token> [W/"a"])  -> (<{OWN}{P}/token> [W/"a"])
Ping-To             -> {OWN}{P}/ping               -> http://localhost:8050/ping
Ping-From           -> {OWN}/a%40b/lab             -> http://localhost:8050/
HX-Current-URL      -> {OWN}{P}/page?token=s3same%2Bopen&a -> http://localhost:8050/page?a
HX-Current-URL      -> {OWN}{P}/page?token=s3same%2Bopen#b -> http://localhost:8050/page#b
X-Page-Of-Its-Own   -> {OWN}{P}/page?token=s3same%2Bopen&a -> {OWN}{P}/page?a
Sec-CH-UA-Mobile    -> ?0                                  -> ?0
X_GWT_Module_Base   -> {OWN}{P}/app/               -> http://localhost:8050/app/
Turbolinks-Referrer -> {OWN}{P}/x                  -> http://localhost:8050/x
Upload-Concat       -> final;{P}/files/a {OWN}{P}/files/b -> final;/files/a http://localhost:8050/files/b
Upload-Concat       -> partial                     -> partial
"""


@table(URLS)
def test_a_url_of_a_request_is_the_services_own(name, sent, seen):
    assert crossed((name, sent)) == [(name, seen)]


@table(f"""
sent -> seen
{OWN}{P}/d        -> {OWN}/d
{P}/d             -> /d
""")
def test_a_url_of_a_request_that_keeps_the_clients_host_loses_the_prefix_alone(sent, seen):
    assert values(up(("Destination", sent), keep_host=True), "Destination") == [seen]


def test_at_an_origin_of_its_own_only_the_origin_of_a_url_is_anothers():
    route = replace(STRIP, prefix="")
    out = up(("Destination", "http://p8050.localhost:8888/d"), ("If", "</x> (<urn:a>)"), route=route, client=AT_ORIGIN)
    assert values(out, "Destination") + values(out, "If") == ["http://localhost:8050/d", "</x> (<urn:a>)"]


# ---- upwards: one consistent story ----


def story(*fields, **options):
    """Host, Origin, and what the forwarded fields name."""
    out = {name: values(up(*fields, **options), name) for name in words("Host Origin X-Forwarded-Host X-Forwarded-Proto")}
    return words(" ".join(value for said in out.values() for value in said))


def url_host(url):
    """`host` of the URL standard's URL: lower case, without the scheme's own port."""
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix({"http": ":80", "https": ":443"}[parts.scheme])


def code_server(fields):
    """The check of code-server 4.138's `authenticateOrigin`: the host in Forwarded, else in X-Forwarded-Host, else in Host."""
    for part in re.split("[;,]", headers.find_field(fields, "forwarded")):
        name, _, host = part.partition("=")
        if name.strip().lower() == "host" and host:
            break
    else:
        host = headers.find_field(fields, "x-forwarded-host").split(",")[0] or headers.find_field(fields, "host")
    return url_host(headers.find_field(fields, "origin")) == host.strip().lower()


def next_action(fields):
    """Next.js 16's `parseHostHeader`, for a server action."""
    host = headers.find_field(fields, "x-forwarded-host").split(",")[0].strip() or headers.find_field(fields, "host")
    return url_host(headers.find_field(fields, "origin")) == host


def rails(fields):
    """Rails 6.1: Origin is `base_url`, with the scheme of Rack 2.2 and with that of Rack 3, which believes Forwarded first."""
    host = re.split(r",\s?", headers.find_field(fields, "x-forwarded-host"))[-1] or headers.find_field(fields, "host")
    told = [headers.find_field(fields, "x-forwarded-scheme"), headers.find_field(fields, "x-forwarded-proto").split(",")[0]]
    newer = [*reversed(re.findall(r"proto=\"?(\w+)", headers.find_field(fields, "forwarded"))), *reversed(told)]
    schemes = {next((said for said in order if said in ("http", "https")), "http") for order in (told, newer)}
    if "on" in (headers.find_field(fields, "https"), headers.find_field(fields, "x-forwarded-ssl")):
        schemes = {"https"}
    bases = {f"{scheme}://{host.removesuffix({'http': ':80', 'https': ':443'}[scheme])}" for scheme in schemes}
    return {headers.find_field(fields, "origin")} == bases


def same_host(fields):
    """Django, Tornado, Bokeh, Vite, Jupyter."""
    return urlsplit(headers.find_field(fields, "origin")).netloc == headers.find_field(fields, "host")


def strict_referer(fields):
    """Django with SECURE_PROXY_SSL_HEADER, Flask-WTF behind ProxyFix: over https the Referer is https, and of this host."""
    referer = urlsplit(headers.find_field(fields, "referer"))
    return headers.find_field(fields, "x-forwarded-proto") != "https" or (referer.scheme, referer.netloc) == (
        "https",
        headers.find_field(fields, "host"),
    )


PLAIN = replace(BEHIND_PROXY, scheme="http", host="hub.example:8888")
BEHIND = ForwardedClient("https", "hub.example", ("192.0.2.1", "192.0.2.2"), forwarded="for=9.9.9.9;host=hub.example;proto=https")
LAST_HOP = replace(CLIENT, scheme="http", host="127.0.0.1:40001", forwarded_client=BEHIND)
AT_ORIGIN = replace(CLIENT, host="p8050.localhost:8888", isolated=True)
SOCKET = Upstream("localhost", 80, ("127.0.0.1",), "/tmp/socket")
TLS = Upstream("localhost", 443, ("127.0.0.1",), scheme="https")
CHECKS = [code_server, next_action, rails, same_host, strict_referer]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("keep_host", [False, True])
@pytest.mark.parametrize("upstream", [UP, LAB, SOCKET, Upstream("::1", 8050, ("::1",)), TLS])
@pytest.mark.parametrize("client", [CLIENT, PLAIN, BEHIND_PROXY, LAST_HOP, AT_ORIGIN])
def test_every_check_of_a_requests_origin_finds_one_story(client, upstream, keep_host, check):
    own = f"{client.scheme}://{client.host}"
    sent = [("Origin", own), ("Referer", f"{own}{P}/x"), ("X-Forwarded-Proto", client.scheme), ("X-Forwarded-Host", client.host)]
    sent += [("X-Forwarded-Ssl", "on"), ("X-Forwarded-Scheme", "https"), ("Front-End-Https", "on")]
    out = up(*sent, client=client, upstream=upstream, keep_host=keep_host, method="POST")
    assert check(out), out


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("keep_host", [False, True])
@pytest.mark.parametrize(
    ("host", "trusted", "said", "page"),
    [
        ("hub.example", False, "X-Forwarded-Proto: https", "https://hub.example"),
        ("hub.example", True, "X-Forwarded-For: 1.1.1.1", "https://hub.example"),
        ("localhost:8888", True, "X-Forwarded-Proto: https|X-Forwarded-Host: hub.example", "https://hub.example"),
        ("hub.example:8443", True, "X-Forwarded-Proto: https|X-Forwarded-Host: hub.example", "https://hub.example:8443"),
        ("hub.example:443", True, "X-Forwarded-Proto: https", "https://hub.example"),
        ("hub.example:80", False, "", "http://hub.example"),
    ],
    ids=words("untrusted-proxy proxy-without-scheme proxy-with-another-host proxy-without-port https-port http-port"),
)
def test_a_reverse_proxy_with_few_fields_leaves_one_story(host, trusted, said, page, keep_host, check):
    public_host = "hub.example" if "X-Forwarded-Host" in said and host != "hub.example" else ""
    client = headers.Client("10.0.0.9", "127.0.0.1", "http", host, trusted=trusted, public_host=public_host)
    out = up(*lines(said), ("Origin", page), ("Referer", f"{page}{P}/x"), client=client, keep_host=keep_host, method="POST")
    assert check(out), out


@pytest.mark.parametrize("keep_host", [False, True])
@pytest.mark.parametrize("client", [BEHIND_PROXY, LAST_HOP])
def test_a_referer_without_an_origin_is_checked_against_the_same_story(client, keep_host):
    sent = [("Referer", f"{client.scheme}://{client.host}{P}/x"), ("X-Forwarded-Proto", client.scheme)]
    assert strict_referer(up(*sent, client=client, keep_host=keep_host, method="POST"))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_where_origin_names_the_service_the_forwarded_fields_do(method):
    said = lines("X-Forwarded-Host: www.example|X-Forwarded-Port: 444|X-Forwarded-Proto: https")
    said += [("Forwarded", "for=1.1.1.1;host=www.example;proto=https")]
    out = up(*said, ("Origin", "https://hub.example"), client=BEHIND_PROXY, method=method)
    assert not any(word in value for name, value in out if name != "X-Gradio-Server" for word in ("example", "https", "444"))
    assert values(out, "X-Gradio-Server") == ["https://www.example"]  # its answers to POST have links, and it compares nothing
    assert values(out, "Forwarded") == ["for=1.1.1.1, for=127.0.0.1;proto=http;host=localhost:8050"]


@pytest.mark.parametrize(
    ("method", "sent", "host"),
    [
        ("GET", [], "hub.example:8888"),  # Gradio makes its links of it
        ("GET", [("Referer", f"{OWN}{P}/x")], "hub.example:8888"),
        ("POST", [], "hub.example:8888"),
        ("POST", [("Referer", f"{OWN}{P}/x")], ""),
        ("MOVE", [("Destination", f"{OWN}{P}/x")], ""),
        ("POST", [("Origin", "https://other.example"), ("Referer", "https://other.example/")], "hub.example:8888"),
        ("POST", [("Origin", "null")], "hub.example:8888"),
    ],
)
def test_a_request_that_names_no_address_of_the_service_carries_the_clients(method, sent, host):
    assert values(up(*sent, method=method), "X-Forwarded-Host") == [host] * bool(host)


def test_the_last_hop_that_keeps_the_host_restores_the_browsers():
    sent = [("Origin", "http://127.0.0.1:40001"), ("Referer", f"http://127.0.0.1:40001{P}/x")]
    out = up(*sent, client=LAST_HOP, keep_host=True)
    assert out[:3] == [("Host", "hub.example"), ("Origin", "https://hub.example"), ("Referer", f"https://hub.example{P}/x")]
    assert story(*sent, client=LAST_HOP, keep_host=True) == words("hub.example https://hub.example hub.example https")


def test_a_hop_that_keeps_the_host_still_calls_the_next_one_by_its_own():
    out = headers.build_request_fields(
        [("Origin", OWN)], KEEP, UP, CLIENT, via="gw", keep_host=True, hop=HopHeader("the-credential", "ann")
    )
    assert out[:2] == [("Host", "localhost:8050"), ("Origin", "http://localhost:8050")]
    assert parse_hop_header(values(out, "X-Portproxy-Hop")[0]).forwarded_client.host == "hub.example:8888"


# ---- upwards: what the gateway says ----


@table(f"""
name -> seen -> behind_a_proxy
X-Forwarded-For     -> 10.0.0.9         -> 1.1.1.1, 127.0.0.1
X-Forwarded-Proto   -> http             -> https
X-Forwarded-Host    -> hub.example:8888 -> www.example
X-Forwarded-Port    -> 8888             -> 444
X-Forwarded-Prefix  -> {P}              -> {P}
X-Forwarded-Context -> {P}              -> {P}
X-ProxyContextPath  -> {P}              -> {P}
Forwarded -> for=10.0.0.9;proto=http;host=hub.example:8888 -> for=1.1.1.1, for=127.0.0.1;proto=https;host=www.example
""")
def test_the_gateway_describes_the_client_and_uses_a_trusted_reverse_proxys_fields(name, seen, behind_a_proxy):
    said = "X-Forwarded-For: 1.1.1.1|x-forwarded-host: www.example|X-Forwarded-Port: 444|X-Forwarded-Proto: https"
    said = lines(said + "|Forwarded: for=1.1.1.1")
    assert values(up(*said), name) == [seen]
    assert values(up(*said, client=BEHIND_PROXY), name) == [behind_a_proxy]


@pytest.mark.parametrize("spoof", ["X_Forwarded_Host", "x.forwarded.for", "X_Forwarded_Port"])
def test_other_forms_of_a_trusted_reverse_proxys_names_do_not_count(spoof):
    said = lines("X-Forwarded-Host: www.example|X-Forwarded-For: 1.1.1.1|X-Forwarded-Port: 444")
    assert up(*said, (spoof, "666"), client=BEHIND_PROXY) == up(*said, client=BEHIND_PROXY)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_each_line_of_a_trusted_reverse_proxys_chain_is_kept_in_order(name):
    chain = ", ".join(values(up((name, "for=1.1.1.1"), (name, "for=2.2.2.2"), client=BEHIND_PROXY), name))
    assert chain.startswith("for=1.1.1.1, for=2.2.2.2, ")


@table("""
said            -> proto -> port
https,http      -> https -> 443
 , https ,http  -> https -> 443
http            -> http  -> 443
,http           -> http  -> 443
gopher, http    -> http  -> 443
""")
def test_in_a_chain_of_reverse_proxies_the_outermost_counts(said, proto, port):
    # configurable-http-proxy appends its own value to that of the ingress before it
    client = headers.Client("10.0.0.9", "127.0.0.1", "http", "hub.example", trusted=True)
    chain = [("X-Forwarded-Proto", said), ("X-Forwarded-Port", f",{port},8000"), ("X-Forwarded-For", ",1.1.1.1")]
    out = up(*chain, client=client)
    assert values(out, "X-Forwarded-Proto") == [proto]
    assert values(out, "X-Forwarded-Port") == [port]
    assert values(out, "X-Forwarded-For") == ["1.1.1.1, 127.0.0.1"]
    assert f"proto={proto};" in values(out, "Forwarded")[0]
    assert values(up(*chain), "X-Forwarded-Proto") == ["http"]  # untrusted


@table("origin -> port\nhttp://h -> 80\nhttps://h -> 443\nhttp://[::1] -> 80\nhttps://h:1 -> 1")
def test_the_forwarded_port_is_the_one_the_client_used(origin, port):
    assert values(up(client=headers.Client("::1", "::1", *origin.split("://"))), "X-Forwarded-Port") == [port]


def test_an_ipv6_client_is_written_as_rfc_7239_wants_it():
    assert values(up(client=headers.Client("::1", "::1", "http", "h")), "Forwarded") == ['for="[::1]";proto=http;host=h']


def test_via_grows_by_one_member_which_this_gateway_recognizes():
    assert ", ".join(values(up(("Via", "1.0 a, 1.1 b"), ("via", "2 c")), "Via")) == "1.0 a, 1.1 b, 2 c, 1.1 gw"
    assert headers.has_loop(up(), "gw")


@pytest.mark.parametrize("via", ["1.1 gw", "1.0 a, 1.1 gw (x)", "HTTP/1.1 gw , 1.1 b"])
def test_a_loop_is_known_by_via(via):
    assert headers.has_loop([("Accept", "*"), ("Via", "1.1 other"), ("vIA", via)], "gw")


@pytest.mark.parametrize("via", ["1.1 gw2", "1.1 a (gw)", "gw", "", ",", "gw 1.1"])
def test_other_gateways_are_no_loop(via):
    assert not headers.has_loop([("Accept", "1.1 gw"), ("Via", via)], "gw")


# ---- upwards: credentials ----


@pytest.mark.parametrize("scheme", ["token ", "Bearer ", "TOKEN \t ", "bearer\xa0"])
def test_an_authorization_that_authenticates_here_never_leaves(scheme):
    # as jupyter_server reads it, `(token|bearer)\s+(.+)`: `\s` takes a no-break space too
    assert crossed(("Authorization", scheme + SECRET), ("AUTHORIZATION", f"{scheme}{SECRET} ")) == []


@pytest.mark.parametrize("value", ["Basic dTpw", "Bearer own", "token own", f"Bearer {SECRET}x", "Digest a=b, c=d", "token", ""])
def test_a_services_own_authorization_crosses(value):
    assert crossed(("Authorization", value)) == [("Authorization", value)]


@pytest.mark.parametrize("scheme", ["", "token ", "Bearer ", "bearer\t"])
def test_an_attach_token_never_crosses(scheme):
    assert crossed(("Authorization", f"{scheme}{ATTACH_TOKEN_START}abc")) == []


@pytest.mark.parametrize("name", ["X-XSRFToken", "X-Xsrftoken", "X_XSRFToken", "x.xsrftoken"])
def test_the_xsrf_field_never_leaves(name):
    assert crossed((name, XSRF)) == []


@pytest.mark.parametrize("cookie", ["own=2|1; _own_xsrf=2|own|7", "_own_xsrf= 2|own|7 ;b"])
def test_a_services_own_xsrf_token_crosses_with_the_cookie_that_it_repeats(cookie):
    assert crossed(("Cookie", cookie), ("X-Xsrftoken", "2|own|7")) == [("Cookie", cookie), ("X-Xsrftoken", "2|own|7")]


@pytest.mark.parametrize("cookie", ["own=2|1", "_xsrf=2|own|7", f"own={XSRF}", "own=", "", f"{LOGIN}=2|own|7"])
@pytest.mark.parametrize("value", ["2|own|7", XSRF, "", " "])
def test_any_other_does_not(cookie, value):
    assert all(name == "Cookie" for name, _ in crossed(("Cookie", cookie), ("X-XSRFToken", value)))


@table("""
query -> left
?token=s3same%2Bopen                          ->
?a&token=s3same%2Bopen&b=%2F                  -> ?a&b=%2F
?t%6Fken=%73%33same%2bopen&a                  -> ?a
?token=s3same%2Bopen&a&token=+s3same%2Bopen%20 -> ?a
?token=%00s3same%2Bopen%1b                    ->
?a=1&_xsrf=2%7Cxsrf%7C7                       -> ?a=1
?a&&token=own&_xsrf=own&Token=x&tokens=y&     -> ?a&&token=own&_xsrf=own&Token=x&tokens=y&
?token=&token                                 -> ?token=&token
?                                             -> ?
""")
def test_the_query_loses_jupyters_token_and_keeps_the_rest(query, left):
    # as Tornado reads it: control characters are blanks, and blanks at the ends go
    assert remove_secret_parameters(f"/a;token=x%2F{query}", CLIENT.secrets) == f"/a;token=x%2F{left}"
    assert values(up(("Referer", f"https://else.example/{query}")), "Referer") == [f"https://else.example/{left}"]


@table(f"""
sent -> seen
a=1; _xsrf=2|aa; b=3                         -> a=1; b=3
{LOGIN}=x; a=1                               -> a=1
a=1; username-127-0-0-1-8888=x               -> a=1
jupyterhub-session-id=z; jupyterhub-user-bob=q; a=1; jupyterhub-hub-login=r; jupyter-hub-token=t -> a=1
a=1; service-x-oauth-state-ab=s; service-x=y -> a=1; service-x=y
_xsrf=1; {LOGIN}=2                           ->
a="x y"; b; c==;;d=\xe4                      -> a="x y"; b; c==;;d=\xe4
XSRF-TOKEN=1;my_xsrf=2; username=3; a=_xsrf  -> XSRF-TOKEN=1;my_xsrf=2; username=3; a=_xsrf
username-localhost-8050=nested; a=1          -> username-localhost-8050=nested; a=1
__Host-jupyterhub-user-ada=1; __Host-service-x=2; __Host-_xsrf=3; __Host-own=4 -> __Host-own=4
""")
def test_cookies_of_jupyter_stay_and_those_of_services_cross(sent, seen):
    assert crossed(("Cookie", sent), ("cookie", "z=1")) == [("Cookie", seen)] * bool(seen) + [("cookie", "z=1")]


@table(f"""
sent -> seen
{TOKEN}, {TOKEN}.{SECRET}              ->
{TOKEN}.{SECRET}, chat,superchat       -> chat,superchat
chat, {TOKEN.upper()}.{SECRET}, x      -> chat, x
v1.kernel.websocket.jupyter.org, chat  -> v1.kernel.websocket.jupyter.org, chat
""")
def test_the_token_subprotocol_stays_and_the_services_own_cross(sent, seen):
    assert crossed(("Sec-WebSocket-Protocol", sent)) == [("Sec-WebSocket-Protocol", seen)] * bool(seen)


@pytest.mark.parametrize(("offered", "answered", "added"), [(TOKEN, "", 1), (f"{TOKEN}, chat", "chat", 0), ("chat", "", 0)])
def test_a_browser_that_offered_only_the_token_gets_an_answer_to_it(offered, answered, added):
    offer, answer = ([("Sec-WebSocket-Protocol", value)] * bool(value) for value in (f"{offered}, {offered}.x", answered))
    assert headers.answer_token_subprotocol(offer, answer) == [("Sec-WebSocket-Protocol", TOKEN)] * added


CARRIERS = rows(f"""
Authorization -> token @
Authorization -> bearer\t @
Cookie -> _xsrf=@
Cookie -> a=1; jupyterhub-session-id=@;b=2; {LOGIN}=@
Referer -> {OWN}{P}/?token=@
Referer -> https://x.example/?a&t%6fken=@&_xsrf=@
Sec-WebSocket-Protocol -> chat, {TOKEN}, {TOKEN}.@,x
X-XSRFToken -> @
X-Forwarded-Access-Token -> @
Proxy-Authorization -> Bearer @
""")
SPELLINGS = [str, str.lower, str.upper, lambda name: name.replace("-", "_"), lambda name: name.replace("-", ".")]
ESCAPES = st.lists(st.booleans(), min_size=len(SECRET), max_size=len(SECRET))


@given(st.lists(st.tuples(st.sampled_from(CARRIERS), st.sampled_from(SPELLINGS), ESCAPES)), st.booleans())
def test_no_mixture_of_fields_lets_a_secret_through(drawn, keep_host):
    fields = []
    for (name, value), spell, escapes in drawn:
        escaped = "".join(f"%{ord(c):02x}" if escape or c == "+" else c for c, escape in zip(SECRET, escapes, strict=True))
        fields.append((spell(name), value.replace("@", escaped if name == "Referer" else SECRET)))
    for route in (STRIP, KEEP):
        assert not any(SECRET in unquote(value) for _, value in up(*fields, route=route, keep_host=keep_host))


# ---- downwards ----

ORIGIN_WIDE = words("""
Clear-Site-Data Strict-Transport-Security Public-Key-Pins Alt-Svc NEL Report-To Accept-CH Accept-CH-Lifetime Set-Cookie2
Shared-Storage-Write Attribution-Reporting-Register-Source Attribution-Reporting-Register-Trigger Observe-Browsing-Topics
IdP-SignIn-Status Sec-Private-State-Token Sec-Redemption-Record Sec-Session-Registration Sec-Shared-Storage-Data-Origin
Ad-Auction-Signals Activate-Storage-Access Cache-Group-Invalidation Critical-Origin-Trial
""")
THEIRS = ["Content-Type", "ETag", "etag", "Vary", "Link", "Content-Security-Policy", "X-Content-Type-Options", "Server", "X-A"]


@pytest.mark.parametrize("name", ["Connection", *HOP, *ORIGIN_WIDE])
def test_what_is_not_the_services_to_say_is_dropped(name):
    assert down((name, "x"), ("X-App", "1"), (name.lower(), "x"), (name.upper(), "x")) == [("X-App", "1")]


@given(st.lists(st.tuples(st.sampled_from([*THEIRS, "NEL", "TE"]), PRINTABLE)))
def test_all_else_reaches_the_client_byte_for_byte_and_in_order(fields):
    inbound = list(fields)
    assert headers.build_response_fields(inbound, STRIP, UP, CLIENT) == [field for field in fields if field[0] in THEIRS]
    assert inbound == fields


@pytest.mark.parametrize("sent", ["Content-Length: 5", "Content-Length: 5|content-length: 5", "Content-Length: 5, 5"])
def test_equal_lengths_are_one_and_a_transfer_coding_overrides_them(sent):
    assert down(*lines(sent)) == [("Content-Length", "5")]
    assert down(*lines(sent), ("Transfer-Encoding", "chunked")) == []


@pytest.mark.parametrize("name", ["Location", "content-location"])
@table(f"""
sent -> seen
/                                    -> {P}/
/a%2Fb?q=/#f                         -> {P}/a%2Fb?q=/#f
http://localhost:8050/x?q#f          -> {P}/x?q#f
HTTP://LocalHost:8050/x              -> {P}/x
http://127.0.0.1:8050/x              -> {P}/x
http://[::1]:8050/x                  -> {P}/x
http://[0:0:0:0:0:0:0:1]:8050/x      -> {P}/x
http://[::ffff:127.0.0.1]:8050/x     -> {P}/x
http://[::]:8050/x                   -> {P}/x
http://0.0.0.0:8050/x                -> {P}/x
http://127.0.1.1:8050/x              -> {P}/x
http://localhost.:8050/x             -> {P}/x
//localhost:8050/x                   -> {P}/x
http://localhost:8050                -> {P}/
http://localhost:8050?q              -> {P}/?q
http://localhost:8050//evil.example/ -> {P}//evil.example/
http://localhost:8050{P}/x           -> {P}/x
{P}                                  -> {P}
{P}?q                                -> {P}?q
{P}/x                                -> {P}/x
{P.replace("%40", "@")}/x@%40        -> {P}/x@%40
http://localhost:8050{P.replace("a", "%61")}/x -> {P}/x
{P.replace("%40", "@")}1/x           -> {P}{P.replace("%40", "@")}1/x
{P}1/x                               -> {P}{P}1/x
{P}/../x                             -> {P}{P}/../x
""")
def test_a_url_of_this_upstream_is_mapped_below_the_prefix(name, sent, seen):
    assert down((name, sent)) == [(name, seen)]


@pytest.mark.parametrize("name", sorted(RESPONSE_URL_FIELDS))
def test_each_field_that_holds_a_url_is_mapped_as_location_is(name):
    for url in ("/x?q", "http://localhost:8050/x?q"):
        for form in ("{}", "<{}>", '"{}"', "0;url={}"):
            sent = form.format(url)
            if RESPONSE_URL_FIELDS[name](sent, lambda url: "changed") in ("changed", form.format("changed")):
                assert down((name, sent)) in ([(name, form.format(f"{P}/x?q"))], [(name, sent)])
    assert any(down((name, form.format("/x"))) == [(name, form.format(f"{P}/x"))] for form in ("{}", "<{}>", '"{}"', "0;url={}"))


@table(
    f"""
name -> sent -> seen
Refresh -> 5                                   -> 5
Refresh -> 1; url=/next                        -> 1; url={P}/next
Refresh -> 1;URL = 'http://localhost:8050/a;b' -> 1;URL = '{P}/a;b'
Refresh -> 0, url="/a"; more                   -> 0, url="{P}/a"; more
Refresh -> 2.5 /a'b                            -> 2.5 {P}/a'b
Refresh -> 1; url=next                         -> 1; url=next
Refresh -> 1; url=https://else.example/        -> 1; url=https://else.example/
Refresh -> url=/a                              -> url=/a
Link -> </a?page=2>; rel="next"                -> <{P}/a?page=2>; rel="next"
Link -> <b>; rel=x,</a>;anchor="/c";title="</t>, '>" , <http://localhost:8050/d,e> -> \
<b>; rel=x,<{P}/a>;anchor="{P}/c";title="</t>, '>" , <{P}/d,e>
Link -> <https://else.example/a>; rel=preload  -> <https://else.example/a>; rel=preload
SourceMap -> /app.js.map                       -> {P}/app.js.map
HX-Location -> {{"target":"#a", "path" : 1}}   -> {{"target":"#a", "path" : 1}}
HX-Location -> {{"path":"/a", "target":"#/b"}} -> {{"path":"{P}/a", "target":"#/b"}}
HX-Location -> /a                              -> {P}/a
HX-Push-Url -> false                           -> false
Speculation-Rules -> "/a.json", "b.json"       -> "{P}/a.json", "b.json"
"""
)
def test_the_urls_of_a_field_are_mapped_and_what_is_between_them_stays(name, sent, seen):
    assert down((name, sent)) == [(name, seen)]


@pytest.mark.parametrize("name", sorted(RESPONSE_URL_FIELDS.keys() | REQUEST_URL_FIELDS.keys()))
@pytest.mark.parametrize(
    "piece", ['"', "<", "(", '("', '<"', "\\", "anchor=", 'anchor="', " ", "0", "0 ", '{"path"', '{"path":"', "a;", ","]
)
def test_no_form_takes_more_than_linear_time(name, piece):
    text = "0;" + piece * (65536 // len(piece))
    form = RESPONSE_URL_FIELDS.get(name) or REQUEST_URL_FIELDS[name]
    assert takes_less_than(0.5, lambda: (form(text, str), form(text[2:], str)), runs=3)


@given(
    st.text(st.sampled_from("<>(),;\"\\'= /a0urlpathncho{}:"), max_size=40),
    st.sampled_from(sorted(RESPONSE_URL_FIELDS.keys() | REQUEST_URL_FIELDS.keys())),
)
def test_a_value_whose_urls_stay_is_the_same_byte_for_byte(value, name):
    assert (RESPONSE_URL_FIELDS.get(name) or REQUEST_URL_FIELDS[name])(value, str) == value


def test_a_service_that_got_x_forwarded_proto_https_may_write_https_urls():
    assert headers.build_response_fields([("Location", "https://localhost:8050/x")], STRIP, UP, BEHIND_PROXY) == [
        ("Location", f"{P}/x")
    ]


@table(f"""
sent -> seen
http://hub.example:8888/login?next=/a -> {P}/login?next=/a
https://HUB.example:8888/login        -> {P}/login
http://hub.example:8888               -> {P}/
http://hub.example:8888?q             -> {P}/?q
http://hub.example:8888//evil.example -> {P}//evil.example
http://hub.example:8888{P}/x          -> http://hub.example:8888{P}/x
http://hub.example:8888/a%40b/lab     -> http://hub.example:8888/a%40b/lab
http://hub.example:8888/hub/home      -> http://hub.example:8888/hub/home
http://hub.example:8888/hubs          -> {P}/hubs
http://hub.example/login              -> http://hub.example/login
""")
def test_a_url_that_a_service_builds_of_x_forwarded_host_is_its_own(sent, seen):
    assert down(("Location", sent)) == [("Location", seen)]
    assert down(("Location", sent), route=KEEP) == [("Location", sent)]


def test_a_url_of_the_host_that_a_reverse_proxy_or_a_chain_forwards_is_the_services_own():
    forwarded = ForwardedClient("https", "hub.example", ("192.0.2.1",))
    for client in (replace(CLIENT, public_host="hub.example"), replace(CLIENT, forwarded_client=forwarded)):
        assert down(("Location", "https://hub.example/login"), client=client) == [("Location", f"{P}/login")]


OTHERS = words("""
next ../x ?q #f //evil.example/x https://localhost:8050/x http://localhost:8051/x http://evil.example/ mailto:a@b
http://localhost:8050@evil.example/ http://localhost:8050.evil.example/ ftp://localhost:8050/ file:///etc/passwd
""")


@pytest.mark.parametrize("value", ["", *OTHERS, f"http://localhost:{'8' * 5000}/"])
def test_any_other_url_passes(value):
    assert down(("Location", value)) == [("Location", value)]


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_a_url_is_mapped_once(below):
    assume(".." not in unquote(below))
    once = down(("Location", f"/x{below}"))
    assert once == [("Location", f"{P}/x{below}")] and down(*once) == once


@table("sent -> seen\n/x -> /x\nhttp://localhost:8050/x -> /x\nhttp://localhost:8050?q -> /?q")
def test_locations_of_a_service_that_sees_its_prefix_stay(sent, seen):
    assert down(("Location", sent), route=KEEP) == [("Location", seen)]


def test_a_path_of_this_upstream_never_becomes_another_host():
    assert not down(("Location", "http://localhost:8050//evil.example/"), route=KEEP)[0][1].startswith("//")


@table("""
upstream -> host -> own
lab -> lab.example:8050 -> yes
lab -> 10.0.0.7:8050    -> yes
lab -> localhost:8050   -> no
lab -> lab.example      -> no
www -> localhost:80     -> yes
www -> localhost        -> yes
www -> 127.0.0.1        -> yes
www -> localhost:8050   -> no
""")
def test_a_url_is_this_upstreams_by_any_of_its_names_and_port_80_may_be_left_out(upstream, host, own):
    seen = f"{P}/x" if own == "yes" else f"http://{host}/x"
    assert down(("Location", f"http://{host}/x"), upstream={"lab": LAB, "www": WWW}[upstream]) == [("Location", seen)]


@table(f"""
sent -> seen
a=1                                            -> a=1; Path={P}
a=1; HttpOnly                                  -> a=1; HttpOnly; Path={P}
a=1; Path=/b; Secure; path=/c                  -> a=1; Secure; Path={P}/c
a=1; Path=/b; PATH=                            -> a=1; Path={P}
a=1; path=b/c                                  -> a=1; Path={P}
a=b=c; Path=/; HttpOnly                        -> a=b=c; Path={P}; HttpOnly
a=1;Domain=.example;domain; Secure; Max-Age=5  -> a=1; Secure; Max-Age=5; Path={P}
a=1; path=/app                                 -> a=1; Path={P}/app
a=1; Path=; Path                               -> a=1; Path={P}
a=1; Path={P}/app                              -> a=1; Path={P}/app
a=1; Path={P.replace("%40", "@")}/app          -> a=1; Path={P}/app
a=1; Path={P}1                                 -> a=1; Path={P}{P}1
__Secure-a=1; Secure                           -> __Secure-a=1; Secure; Path={P}
username-localhost-8050=nested; Path=/         -> username-localhost-8050=nested; Path={P}
a=1; Path={P}/                                 -> a=1; Path={P}/
""")
def test_a_cookie_is_moved_below_the_prefix(sent, seen):
    assert down(("Set-Cookie", sent), ("set-cookie", "z=1")) == [("Set-Cookie", seen), ("set-cookie", f"z=1; Path={P}")]


@pytest.mark.parametrize(
    ("prefix", "path", "seen"),
    [
        (P, "/x", P),
        (P, "/a/b", f"{P}/a"),
        (P, "/a/", f"{P}/a"),
        (P, "/a;v=1/b", P),
        (P, "/" + 2000 * "a" + "/b", P),
        ("/b/proxy/absolute/port/8050", "", "/b/proxy/absolute/port/8050"),
        ("/b/port/8050", "", "/b/port/8050"),
        ("/b/port/8050", "/", "/b/port/8050"),
        ("", "/a", "/"),
        ("", "/a/b", "/a"),
    ],
)
@pytest.mark.parametrize("isolated", [False, True])
def test_a_cookie_without_a_path_gets_the_folder_of_the_request_or_the_prefix(prefix, path, seen, isolated):
    """The browser's own default is the folder of its URL: where the final slash is missing, one above the prefix."""
    route = replace(KEEP if "port/8050" in prefix and prefix != P else STRIP, prefix=prefix, path=path)
    for sent in ("a=1", "a=1; Path=", "a=1; path", "a=1; PATH=x", f"a=1; Path=/; Path={'x' * 9}"):
        out = headers.build_response_fields([("Set-Cookie", sent)], route, UP, replace(CLIENT, isolated=isolated))
        assert out[0] == ("Set-Cookie", f"a=1; Path={seen}")


def test_a_cookie_of_the_whole_service_is_one_cookie_whether_its_path_is_set_or_the_default():
    """A service that has set it without a Path deletes it with `Path=/`."""
    for route in (STRIP, replace(KEEP, prefix=P, path="")):
        paths = {down(("Set-Cookie", sent), route=route)[0][1].partition("Path=")[2] for sent in ("a=1", "a=; Path=/; Max-Age=0")}
        assert {path.partition(";")[0] for path in paths} == {P}


def test_a_path_that_browsers_would_take_no_notice_of_is_the_prefix():
    assert down(("Set-Cookie", f"a=1; Path=/{2000 * 'a'}")) == [("Set-Cookie", f"a=1; Path={P}")]


@given(
    st.lists(st.sampled_from(["Path", "path=", " PATH = /", f"Path={P}", "Path=/a%40b/lab", "Path=x", "Secure", "Domain=x", ""]))
)
def test_every_cookie_has_one_path_at_the_prefix_or_below(attributes):
    for route in (STRIP, replace(KEEP, prefix=P, path="")):
        [(_, value)] = down(("Set-Cookie", ";".join(["a=1", *attributes])), route=route)
        [path] = [a.partition("=")[2] for a in value.split(";")[1:] if a.partition("=")[0].strip().lower() == "path"]
        assert path == P or path.startswith(f"{P}/")


SHADOWS = words("_xsrf _XSRF username-127-0-0-1-8888 jupyterhub-session-id jupyterhub-user-bob jupyter-hub-token __host-a")


@pytest.mark.parametrize("name", ["", " _xsrf ", LOGIN, "__Host-a", *SHADOWS])
def test_a_cookie_that_would_shadow_jupyters_or_cannot_be_moved_is_refused(name):
    assert down(("Set-Cookie", f"{name}=1; Path=/; Secure")) == []


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("a=1; Priority=High; PRIORITY = high; Secure", f"a=1; Secure; Path={P}"),
        ("a=1; Path=/%2e%2e/", f"a=1; Path={P}/%2e%2e/"),
        ("a=1; Path=\t/\t", f"a=1; Path={P}"),
        (f"a=1; Path={P}/../x", f"a=1; Path={P}{P}/../x"),
        (f"a=1; Path={P}/%2E%2e/x", f"a=1; Path={P}{P}/%2E%2e/x"),
    ],
)
def test_a_cookies_path_stays_below_the_prefix_and_its_priority_is_dropped(sent, seen):
    assert down(("Set-Cookie", sent)) == [("Set-Cookie", seen)]


@pytest.mark.parametrize(
    "sent", ["=_xsrf=1", "= _xsrf=1", " =x", "_xsrf", "value", "", ";", "\t_xsrf\t=1", "_xsrf =1", "__HOST-x=1; Path=/"]
)
def test_a_cookie_without_a_name_or_with_jupyters_is_refused(sent):
    assert down(("Set-Cookie", sent)) == []


def test_an_answer_sets_fifty_cookies_at_most():
    assert len(down(*[("Set-Cookie", f"c{n}=1") for n in range(500)])) == 50


@pytest.mark.parametrize(
    "name", ["Clear-Site-Data", "Use-As-Dictionary", "Set-Login", "Secure-Session-Registration", "Expect-CT"]
)
def test_what_acts_on_the_whole_origin_does_not_pass(name):
    assert down((name, '"*"')) == []


@pytest.mark.parametrize("name", ["X-Accel-Redirect", "X-Sendfile", "x-lighttpd-send-file"])
def test_a_command_to_a_reverse_proxy_does_not_pass(name):
    assert down((name, "/internal/secret")) == []


@pytest.mark.parametrize(
    "name",
    ["X-Accel-Buffering", "Sec-WebSocket-Accept", "Supports-Loading-Mode", "No-Vary-Search", "X-Sec-Own", "Permissions-Policy"],
)
def test_what_acts_on_the_answer_alone_passes(name):
    assert down((name, "x")) == [(name, "x")]


@table(f"""
sent -> seen
Digest realm="a, b", domain="/", nonce="n"  -> Digest domain="{P}/", realm="a, b", nonce="n"
DIGEST nonce="n", DOMAIN = "/ /b"           -> DIGEST domain="{P}/", nonce="n"
Digest nonce="domain=/x,", qop=auth         -> Digest domain="{P}/", nonce="domain=/x,", qop=auth
Basic realm="digest domain=", Digest domain=/,nonce="n" -> Basic realm="digest domain=", Digest domain="{P}/", nonce="n"
Digest domain="{P}/a {P}", nonce="n"        -> Digest domain="{P}/a {P}", nonce="n"
Digest domain="", a=b                       -> Digest domain="{P}/", a=b
Digest a=b, domain="{P}/x", Digest c=d      -> Digest a=b, domain="{P}/x", Digest domain="{P}/", c=d
Digest a=b, Digest domain="/", c=d          -> Digest domain="{P}/", a=b, Digest domain="{P}/", c=d
Basic realm="x"                             -> Basic realm="x"
Bearer                                      -> Bearer
Negotiate                                   -> Negotiate
""")
def test_the_space_that_a_digest_protects_ends_at_the_prefix(sent, seen):
    assert down(("WWW-Authenticate", sent)) == [("WWW-Authenticate", seen)]
    own = headers.build_response_fields(
        [("WWW-Authenticate", sent)], replace(STRIP, prefix=""), UP, replace(CLIENT, isolated=True)
    )
    assert own[0] == ("WWW-Authenticate", sent)
    assert headers.build_response_fields([("WWW-Authenticate", seen)], KEEP, UP, CLIENT)[0][1].count('domain="') == seen.count(
        'domain="'
    )


ODD_CHALLENGES = [
    r'realm="a\", domain="/"',
    """realm='", domain="/\"""",
    'a=b", domain="/"',
    'realm="a, domain="/"',
    'a="b, domain=/',
]


@pytest.mark.parametrize("value", ODD_CHALLENGES)
def test_a_digest_in_which_a_browser_may_find_another_domain_does_not_pass(value):
    assert down(("WWW-Authenticate", f"Digest {value}")) == []


SCOPES = ["/", "/a%40b/", *(P + end for end in ("", "1/", "/../", "/.%2E/", "/%2e%2e%2f", "/x\\..\\..\\", "/.\t./"))]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_service_worker_scope_beyond_the_prefix_is_dropped(scope):
    # browsers drop tabs from URLs, and compare scopes as strings: what ends in 1500 has 15000 too
    assert down(("Service-Worker-Allowed", scope)) == []
    assert down(("Service-Worker-Allowed", f"{P}/a/")) == [("Service-Worker-Allowed", f"{P}/a/")]


# ---- upgrades, and the rest ----


@table("""
start -> connection -> upgrade -> asked
GET HTTP/1.1  -> Upgrade             -> websocket -> yes
GET HTTP/1.1  -> keep-alive, upgrade -> WebSocket -> yes
POST HTTP/1.1 -> Upgrade             -> websocket -> no
GET HTTP/1.0  -> Upgrade             -> websocket -> no
GET HTTP/1.1  -> keep-alive          -> websocket -> no
GET HTTP/1.1  -> Upgrade             -> h2c       -> no
""")
def test_an_upgrade_to_websocket_is_known(start, connection, upgrade, asked):
    assert headers.is_websocket_upgrade(*start.split(), [("connection", connection), ("UPGRADE", upgrade)]) is (asked == "yes")


def test_fields_are_replaced_and_may_be_set_aside():
    sent = [("A", "1"), ("authorization", "Basic x"), ("B", "2")]
    by = [("Authorization", "token t")]
    assert headers.replace_fields(sent, by) == [("A", "1"), ("B", "2"), *by]
    assert headers.replace_fields(sent, by, {"authorization": "X-Own", "b": "X-B"}) == [
        ("A", "1"),
        ("X-Own", "Basic x"),
        ("B", "2"),
        *by,
    ]
    assert headers.replace_fields(sent, [("C", "3")], {"authorization": "X-Own"}) == [*sent, ("C", "3")]


@pytest.mark.parametrize(
    ("own", "seen"), [("Basic x", ["Basic x"]), (f"token {SECRET}", []), (f"Bearer  {SECRET} ", []), (SECRET, [])]
)
def test_a_services_authorization_that_came_beside_the_login(own, seen):
    client = replace(CLIENT, authorization=own)
    for sent in ([], [("Authorization", f"token {SECRET}")], [("authorization", "Basic other")]):
        assert values(up(*sent, ("X-Portproxy-Authorization", "Basic mine"), client=client), "Authorization") == seen


@pytest.mark.parametrize(
    ("said", "proto"), [("http", "http"), ("https", "https"), ("HTTP", "http"), ("ftp", "https"), ("", "https")]
)
def test_a_trusted_reverse_proxy_decides_the_clients_scheme(said, proto):
    fields = up(*([("X-Forwarded-Proto", said)] if said else []), client=BEHIND_PROXY)
    assert values(fields, "X-Forwarded-Proto") == [proto]


@pytest.mark.parametrize(
    ("path", "sent", "seen"),
    [
        ("/a/data%20x.csv", None, "attachment; filename*=UTF-8''data%20x.csv"),
        ("/a/", None, "attachment"),
        ('/a"b', None, "attachment"),
        ("/a/%zz", None, "attachment"),
        ("/a", 'inline; filename="b"', 'inline; filename="b"'),
    ],
)
def test_what_is_to_be_saved_is_a_file(path, sent, seen):
    fields = [("Content-Disposition", sent)] if sent else []
    out = headers.build_response_fields(fields, replace(STRIP, path=path), UP, replace(CLIENT, isolated=True, is_download=True))
    assert values(out, "Content-Disposition") == [seen]


def test_after_a_hop_header_the_service_gets_the_same_fields_as_without():
    asked = [("Host", "hub"), ("X-Portproxy-Hop", "for=mine"), ("X-Forwarded-For", "192.0.2.1"), ("Cookie", "a=b"), ("Via", "x")]
    plainly = up(*asked, client=BEHIND_PROXY, route=KEEP)
    told = headers.build_request_fields(asked, KEEP, UP, BEHIND_PROXY, via="gw", hop=HopHeader("the-credential", "ann"))
    assert [name for name, _ in told] == ["Host", "Cookie", "X-Portproxy-Hop", "Via"]
    word = parse_hop_header(values(told, "X-Portproxy-Hop")[0])
    assert (word.credential, word.user, word.forwarded_client.peers) == ("the-credential", "ann", (BEHIND_PROXY.peer,))
    inner = replace(CLIENT, trusted=True)
    assert up(*told, ("X-Forwarded-For", "mine"), client=replace(inner, forwarded_client=word.forwarded_client)) == up(
        *plainly, client=inner
    )


# ---- what a recording says of both directions ----

COOKIES = [
    ("Set-Cookie", "good=1"), ("set-cookie", "_xsrf=2; Path=/"), ("Set-Cookie", "__Host-a=3; Secure; Path=/"),
    ("Set-Cookie", "bare"),
    ("Set-Cookie", f"{LOGIN}=4"), ("Set-Cookie", "; Path=/"),
]  # fmt: skip


def test_refused_cookies_have_a_reason_and_are_those_that_do_not_cross():
    refused = headers.explain_refused_cookies(COOKIES, STRIP, UP, CLIENT)
    expected = [("_xsrf", "jupyter"), ("__Host-a", "host_prefix"), ("", "unnamed"), (LOGIN, "jupyter"), ("", "unnamed")]
    assert refused == expected
    assert len(values(down(*COOKIES), "Set-Cookie")) == len(COOKIES) - len(refused)
    many = [("Set-Cookie", f"c{number}=1") for number in range(60)]
    assert headers.explain_refused_cookies(many, STRIP, UP, CLIENT) == [(f"c{number}", "too_many") for number in range(50, 60)]
    isolated = replace(CLIENT, isolated=True)
    assert headers.explain_refused_cookies([*many, COOKIES[2]], STRIP, UP, isolated) == []


@pytest.mark.parametrize("size", [0, 1, 50, 51, 70])
def test_as_many_cookies_are_explained_as_are_refused(size):
    fields = [*COOKIES, *(("Set-Cookie", f"c{number}=1") for number in range(size))]
    refused = headers.explain_refused_cookies(fields, STRIP, UP, CLIENT)
    assert len(refused) == len(fields) - len(values(down(*fields), "Set-Cookie"))


def test_dropped_names_are_those_of_fields_that_did_not_cross():
    fields = [
        ("Accept", "a"),
        ("Authorization", "b"),
        ("authorization", "c"),
        ("Connection", "d"),
        ("Content-Length", "1"),
        ("X-A", "e"),
    ]
    assert headers.find_dropped_names(fields, [("accept", "other"), ("X-B", "f")]) == ["authorization", "X-A"]
    assert headers.find_dropped_names(fields, fields) == headers.find_dropped_names([], fields) == []
