"""MLflow."""

from .app import App

APP = App(
    name="mlflow",
    title="MLflow",
    template="mlflow",
    pip=("mlflow",),
    directly={
        "command": ["mlflow", "ui", "--host", "127.0.0.1", "--port", "{port}", "--backend-store-uri", "sqlite:///mlflow.db"]
    },
    ready="text=Experiments",
    deep=("#/experiments", "text=Default"),
    how="The template sets `--static-prefix`. If MLflow's check of the Host field refuses an address (403), add its name to "
    "`MLFLOW_SERVER_ALLOWED_HOSTS`.",
)
