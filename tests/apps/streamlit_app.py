"""Streamlit."""

from .app import App, click, download, fill, upload

SCRIPT = """
import streamlit as st
st.title("hello streamlit")
if st.button("count"):
    st.write("the button was pressed")
word = st.text_input("word")
if word:
    st.write("said " + word)
file = st.file_uploader("file")
if file:
    st.write(f"{len(file.read())} bytes arrived")
st.download_button("save", "some bytes", "data.txt")
"""
PAGE = "import streamlit as st\nst.title('second page')\n"
APP = App(
    name="streamlit",
    title="Streamlit",
    template="streamlit",
    pip=("streamlit",),
    arguments={"script": "st/app.py"},
    files={"st/app.py": SCRIPT, "st/pages/second.py": PAGE},
    ready="h1:has-text('hello streamlit')",
    steps={
        "live": click("button:has-text('count')", "text=the button was pressed"),
        "form": fill("input[aria-label=word]", "hello", "text=said hello"),
        "upload": upload("input[type=file]", "text=12 bytes arrived"),
        "download": download("button:has-text('save')", b"some bytes"),
        "link": click("a:has-text('second')", "h1:has-text('second page')"),
    },
    deep=("second", "h1:has-text('second page')"),
    how="The template sets `--server.baseUrlPath`.",
)
