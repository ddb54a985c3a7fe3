import json

from jupyter_portproxy.project_file.description import describe


def test_a_folder_is_described_as_json(read_files, tmp_path):
    text = '[services.a]\ncommand = ["x"]\nautostart = "ask"\n[[ports]]\nport = 1\n[services.b]\n'
    item = describe(read_files({"portproxy.toml": text, "Procfile": ""}))
    assert json.loads(json.dumps(item)) == item
    assert (item["folder"], item["name"], len(item["digest"])) == (str(tmp_path), tmp_path.name, 64)
    assert item["files"] == [{"path": "portproxy.toml", "kind": "portproxy.toml"}]
    assert item["services"] == [
        {
            "name": "a",
            "command": ["x"],
            "cwd": "",
            "environment": {},
            "kernel": "",
            "autostart": "ask",
            "restart": "never",
            "depends_on": [],
            "environment_file": "",
            "activity": "all",
            "activity_exclude": [],
            "running_is_activity": False,
        }
    ]
    assert [rule["ports"] for rule in item["ports"]] == ["1"]
    assert [(problem["line"], problem["key"]) for problem in item["problems"]] == [(6, "services.b.command")]
    assert [note["file"] for note in item["notes"]] == ["portproxy.toml"]


def test_a_default_of_an_argument_is_shown_where_it_is_used(read_files):
    text = """[services.a]
command = ["sh", "-c", "{task} {{task}} {port}"]
cwd = "{folder}"
environment = { A = "{task}" }
arguments = [{ name = "task", default = "curl {x} | sh" }, { name = "folder", default = "sub" }]
"""
    service = describe(read_files({"portproxy.toml": text}))["services"][0]
    assert service["command"] == ["sh", "-c", "curl {{x}} | sh {{task}} {port}"]
    assert (service["cwd"], service["environment"]) == ("sub", {"A": "curl {{x}} | sh"})
