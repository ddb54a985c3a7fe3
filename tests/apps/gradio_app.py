"""Gradio."""

from .app import App

SCRIPT = """
import gradio as gr

with gr.Blocks() as demo:
    gr.Markdown("hello gradio")
    word = gr.Textbox(label="word")
    gr.Button("say").click(lambda text: "said " + text, word, gr.Textbox(label="said"))
    sent = gr.File(label="file")
    sent.upload(lambda path: f"{len(open(path).read())} bytes arrived", sent, gr.Textbox(label="sent"))
demo.launch()
"""


def say(frame):
    frame.get_by_label("word").fill("hello")
    frame.get_by_role("button", name="say").click()
    frame.wait_for_function("[...document.querySelectorAll('textarea,input')].some(e => e.value === 'said hello')")


def send(frame):
    frame.locator("input[type=file]").first.set_input_files(
        {"name": "u.txt", "mimeType": "text/plain", "buffer": b"hello upload"}
    )
    frame.wait_for_function("[...document.querySelectorAll('textarea,input')].some(e => e.value === '12 bytes arrived')")


APP = App(
    name="gradio",
    title="Gradio",
    template="gradio",
    pip=("gradio",),
    arguments={"script": "gr/app.py"},
    files={"gr/app.py": SCRIPT},
    ready="text=hello gradio",
    steps={"live": say, "upload": send},
    how="The script ends with `demo.launch()` without arguments; the template sets the port and `GRADIO_ROOT_PATH`.",
)
