"""Equal models are equal bytes, in whatever process; nothing untrusted is built."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from coalmine.errors import IntegrityError, SpecError
from coalmine.evaluation import model_file
from pipelines.features import minute_of_day

FIT = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from coalmine.evaluation import model_file
from threadpoolctl import threadpool_limits
chance = np.random.default_rng(0)
rows = pd.DataFrame({"a": chance.normal(size=500), "b": chance.choice(["x", "y", "z"], 500)})
target = (rows["a"] + chance.normal(size=500) > 0).astype(int)
for estimator in (
    HistGradientBoostingClassifier(max_iter=5, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    RandomForestClassifier(n_estimators=5, random_state=0),
    LogisticRegression(),
):
    columns = ColumnTransformer(
        [("o", OrdinalEncoder(), ["b"]), ("h", OneHotEncoder(), ["b"]), ("n", "passthrough", ["a"])]
    )
    with threadpool_limits(1):
        model = Pipeline([("columns", columns), ("estimator", estimator)]).fit(rows, target)
    path = Path(sys.argv[1]) / f"{type(estimator).__name__}.skops"
    model_file.dump(model, path)
    again = model_file.load(path, model_file.untrusted_types(path))
    assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))
"""


def test_two_fits_in_two_processes_give_the_same_bytes(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for hash_seed, folder in enumerate(folders):
        folder.mkdir()
        environment = {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": ":".join(sys.path), "PATH": ""}
        subprocess.run([sys.executable, "-c", FIT, str(folder)], env=environment, check=True)
    names = sorted(path.name for path in folders[0].iterdir())
    assert len(names) == 4
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_sets_are_in_one_order_and_load_as_sets(tmp_path):
    words = {f"word {number}" for number in range(50)}
    paths = []
    for number, order in enumerate((sorted(words), sorted(words, reverse=True))):
        model = LogisticRegression()
        model.words_ = set(order)
        paths.append(tmp_path / f"{number}.skops")
        model_file.dump(model, paths[-1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert model_file.load(paths[0], []).words_ == words


def test_one_object_in_two_places_is_still_one_after_loading(tmp_path):
    model = LogisticRegression()
    shared = np.arange(3.0)
    model.one_, model.two_, model.equal_ = shared, shared, np.arange(3.0)
    model_file.dump(model, tmp_path / "m.skops")
    again = model_file.load(tmp_path / "m.skops", [])
    assert again.one_ is again.two_
    assert again.one_ is not again.equal_


def test_what_is_not_named_as_trusted_is_not_built(tmp_path):
    model_file.dump(DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1]), tmp_path / "m.skops")
    assert model_file.untrusted_types(tmp_path / "m.skops") == ("sklearn.tree._tree.Tree",)
    with pytest.raises(IntegrityError, match="does not name as trusted"):
        model_file.load(tmp_path / "m.skops", [])


def test_a_function_is_trusted_by_its_name(tmp_path):
    model_file.dump(FunctionTransformer(minute_of_day).fit([[17.0, 45.0]]), tmp_path / "m.skops")
    named = model_file.untrusted_types(tmp_path / "m.skops")
    assert named == ("pipelines.features.minute_of_day",)
    assert model_file.load(tmp_path / "m.skops", named).func is minute_of_day
    with pytest.raises(IntegrityError, match="does not name as trusted"):
        model_file.load(tmp_path / "m.skops", [])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"not a model"),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: zipfile.ZipFile(path, "w").close(),
    ],
    ids=["no archive", "cut off", "empty archive"],
)
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "m.skops"
    model_file.dump(LogisticRegression(), path)
    damage(path)
    with pytest.raises(IntegrityError, match="not a model file"):
        model_file.load(path, [])


def test_what_cannot_be_saved_is_said_at_once(tmp_path):
    model = LogisticRegression()
    model.rows_ = (number for number in range(3))
    with pytest.raises(SpecError, match="LogisticRegression cannot be saved"):
        model_file.dump(model, tmp_path / "m.skops")
