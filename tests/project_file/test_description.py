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
            "depends_on": [],
            "environment_file": "",
        }
    ]
    assert [rule["ports"] for rule in item["ports"]] == ["1"]
    assert [(problem["line"], problem["key"]) for problem in item["problems"]] == [(6, "services.b.command")]
    assert [note["file"] for note in item["notes"]] == ["portproxy.toml"]
