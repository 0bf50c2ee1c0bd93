"""FastAPI as tutorials serve a model with it: a pydantic row becomes a table of one row."""

import pandas as pd
from fastapi import FastAPI
from pydantic import create_model
from rows import NAMES, model, respond

Row = create_model("Row", **dict.fromkeys(NAMES, (float, ...)))
app = FastAPI()
pipeline = model()


@app.post("/predict")
def predict(row: Row):
    return respond(pipeline.predict_proba(pd.DataFrame([row.model_dump()]))[0].tolist())
