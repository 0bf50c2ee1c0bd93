"""Convert the pipeline to ONNX: skl2onnx, with onnxmltools' converter for XGBoost."""

from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from rows import FOLDER, NAMES, model
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier

update_registered_converter(
    XGBClassifier,
    "XGBoostXGBClassifier",
    calculate_linear_classifier_output_shapes,
    convert_xgboost,
    options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
)
fitted = model()
plain = Pipeline([*fitted[0].named_transformers_["number"].steps, ("model", fitted[-1].estimator_)])
graph = convert_sklearn(
    plain,
    initial_types=[("X", FloatTensorType([None, len(NAMES)]))],
    options={id(plain): {"zipmap": False}},
    target_opset={"": 18, "ai.onnx.ml": 3},
)
(FOLDER / "model.onnx").write_bytes(graph.SerializeToString())
