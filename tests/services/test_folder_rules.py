"""The rules for ports of folders, among themselves; what counts before them is tested in tests/gateway/test_policy.py."""

from __future__ import annotations

from jupyter_portproxy.services.folder_rules import FolderRules
from jupyter_portproxy.services.port_rules import PortAttributes, parse_rule


def rule(**values):
    return parse_rule(values)


def test_each_attribute_is_that_of_the_narrowest_rule_and_of_the_first_folder():
    rules = FolderRules()
    rules.put("/shop", [rule(ports="3000-3010", label="shop", scheme="https")])
    rules.put(
        "/blog", [rule(ports="3000-3010", label="blog", keep_host=True), rule(ports="3001", on_appear="silent", label="one")]
    )
    assert rules.find(3000) == PortAttributes("shop", None, "https", True)
    assert rules.find(3001) == PortAttributes("one", "silent", "https", True)
    assert rules.find(3011) == PortAttributes()
    assert [folder for folder, _ in rules.list()] == ["/shop", "/blog", "/blog"]


def test_the_version_grows_with_each_change_alone():
    rules = FolderRules()
    versions = [rules.version]
    for given in ([rule(ports="3000", label="a")], [rule(ports="3000", label="a")], [rule(ports="3000", label="b")], [], []):
        rules.put("/shop", given)
        versions.append(rules.version)
    assert versions == [0, 1, 1, 2, 3, 3]
    assert (rules.list(), rules.find(3000)) == ([], PortAttributes())


def test_the_rules_of_two_folders_and_of_the_user_have_different_ids():
    rules, own = FolderRules(), rule(ports="3000", label="a")
    rules.put("/shop", [own])
    rules.put("/shop \udcff", [own])
    assert len({own.id, *(each.id for _, each in rules.list())}) == 3
