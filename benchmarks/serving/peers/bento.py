"""BentoML with a service of one worker, which turns a row into a table."""

import bentoml
import pandas as pd
from rows import NAMES, model, respond


@bentoml.service(workers=1)
class Wine:
    def __init__(self) -> None:
        self.pipeline = model()

    @bentoml.api
    def predict(self, row: dict[str, float]) -> dict[str, object]:
        return respond(self.pipeline.predict_proba(pd.DataFrame([row], columns=NAMES))[0].tolist())
