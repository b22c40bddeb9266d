#!/usr/bin/env python3
"""The arithmetic of the adapter study's tables, and what adapter.py keeps of results for them."""

import argparse
import contextlib
import io
import json
import math
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "studies"))

import adapter
import adapter_report as report


def line(method, item, nll, **fields):
    return {"method": method, "item": item, "nll": nll, "n_scored": 2, "attended": 30.04, "sets_budget": method == "ssa:8@8", **fields}


class Arithmetic(unittest.TestCase):
    def test_interval_of_a_mean(self):
        values = [0.0, 1.0, 1.0, 1.0]
        found = report.interval([(value, 1) for value in values])
        deviation = math.sqrt(sum((value - 0.75) ** 2 for value in values) / 3)
        self.assertAlmostEqual(found["mean"], 0.75)
        self.assertAlmostEqual(found["high"] - 0.75, 1.96 * deviation / 2)
        self.assertEqual(found["n"], 4)

    def test_interval_of_a_ratio(self):
        self.assertEqual(report.interval([(1.0, 2.0), (3.0, 6.0)]) | {"n": 0}, {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 0})
        self.assertIsNone(report.interval([]))
        self.assertIsNone(report.interval([(1.0, 0.0)]))
        self.assertTrue(math.isnan(report.interval([(1.0, 2.0)])["low"]))

    def test_quantile(self):
        self.assertAlmostEqual(report.quantile([0.0, 10.0, 20.0], 0.25), 5.0)
        self.assertEqual(report.quantile([3.0], 0.975), 3.0)

    def test_difference_is_paired(self):
        bootstrap = report.Bootstrap(rounds=500, seed=1)
        first = {str(i): (i % 7 + 0.5, 1) for i in range(60)}
        second = {str(i): (i % 7, 1) for i in range(60)} | {"another": (100.0, 1)}
        found = bootstrap.difference(first, second)
        self.assertEqual(found["n"], 60)
        for name in ("mean", "low", "high"):  # the items' own spread is in neither
            self.assertAlmostEqual(found[name], 0.5)
        self.assertIsNone(bootstrap.difference(first, {}))

    def test_interval_of_a_difference(self):
        bootstrap = report.Bootstrap(rounds=4000, seed=1)
        values = [((i * 37) % 101) / 101 for i in range(200)]
        found = bootstrap.difference({str(i): (value, 1) for i, value in enumerate(values)}, {str(i): (0.0, 1) for i in range(200)})
        expected = report.interval([(value, 1) for value in values])
        self.assertAlmostEqual(found["mean"], expected["mean"])
        self.assertAlmostEqual(found["low"], expected["low"], delta=0.004)
        self.assertAlmostEqual(found["high"], expected["high"], delta=0.004)
        self.assertEqual(found, report.Bootstrap(rounds=4000, seed=1).difference(
            {str(i): (value, 1) for i, value in enumerate(values)}, {str(i): (0.0, 1) for i in range(200)}))

    def test_difference_of_ratios(self):
        pairs = {str(i): (2.0 * (i + 1), i + 1) for i in range(20)}
        found = report.Bootstrap(rounds=100).difference(pairs, {item: (b, b) for item, (_, b) in pairs.items()})
        self.assertEqual((found["mean"], found["low"], found["high"]), (1.0, 1.0, 1.0))


class Gathered(unittest.TestCase):
    """Two models' results through adapter.py's condensed files and back."""

    def study(self, sets):
        """sets: {(model, set): lines of ssa eval}"""
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            out = pathlib.Path(folder)
            (out / "runs").mkdir()
            for (model, name), lines in sets.items():
                items, rows = adapter.condense(lines)
                kept = {"key": "", "model": model, "set": name, "part": "main", "seconds": 1.0, "items": items, "rows": rows}
                (out / "runs" / f"{model}.{name}.main.json").write_text(json.dumps(kept))
            adapter.gather(argparse.Namespace(out=out), [])
            plain, packed = (report.read_study([out / name]) for name in ("items.jsonl", "items.jsonl.xz"))
        self.assertEqual(plain, packed)
        return packed

    def test_kept_gain(self):
        gains = {"full-cpt": {"alone": (4.0, 3.0), "full": (3.0, 1.0)}, "ssa-cpt": {"alone": (5.0, 3.5), "full": (3.5, 1.5), "ssa:8@8": (3.5, 2.0)}}
        study = self.study({(model, "ppl-4k"): [line(method, item, 1.0, gain_nll=each) for method, both in of_model.items()
                                               for item, each in zip("ab", both)] for model, of_model in gains.items()})
        def value(model, method, metric):
            return report.interval(list(report.pairs_of(study, ("ppl-4k", model, method), metric).values()))["mean"]
        self.assertAlmostEqual(value("full-cpt", "full", "kept_gain"), 1.0)
        self.assertAlmostEqual(value("ssa-cpt", "ssa:8@8", "kept_gain"), (0.5 + 1.0) / (1.0 + 2.0))
        self.assertAlmostEqual(value("ssa-cpt", "ssa:8@8", "own_gain"), (1.5 + 1.5) / (1.5 + 2.0))

    def test_answers(self):
        def lines(items, contains):
            return [line("full", item, 0.25, contains=each, f1=0.123456, attended_by_layer=[30, 20 + each]) for item, each in zip(items, contains)]
        study = self.study({("base", "nq-1"): lines("abc", [True, False, False]), ("full-sft", "nq-1"): lines("bc", [True, False])})
        key = ("nq-1", "full-sft", "full")
        self.assertEqual(report.pairs_of(study, key, "contains"), {"b": (1, 1), "c": (0, 1)})
        self.assertEqual(report.pairs_of(study, key, "log_likelihood"), {"b": (-0.5, 2), "c": (-0.5, 2)})
        self.assertEqual(report.pairs_of(study, key, "evidence_recall"), {})
        self.assertEqual(study.rows[key]["attended_by_layer"], [30, 20.5])
        self.assertEqual(study.rows[key]["f1"], [0.1235, 0.1235])
        found = report.Bootstrap(rounds=50).difference(report.pairs_of(study, key, "contains"), report.pairs_of(study, ("nq-1", "base", "full"), "contains"))
        self.assertEqual((found["n"], found["mean"]), (2, 0.5))

    def test_tables(self):
        study = self.study({(model, "kv-2k"): [line(method, item, 0.5, all_correct=item == "a", contains=True) for method in methods for item in "ab"]
                            for model, methods in {"ssa-sft": ["full", "gists", "ssa:8@8"], "full-sft": ["full", "h2o:8@8"]}.items()})
        measured, found = report.cells(study), report.differences(study, bootstrap := report.Bootstrap(rounds=20))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            report.write_tables(study, measured, found, bootstrap)
        self.assertIn("| ssa-sft ssa:8@8 – full-sft h2o:8@8 | +0.000 [+0.000, +0.000] |", out.getvalue())
        self.assertIn("| full-sft | 0.500 [-0.480, 1.480] | – | – | 0.500", out.getvalue())


class Planned(unittest.TestCase):
    def works(self, names, budgets=""):
        with tempfile.TemporaryDirectory() as folder:
            data = pathlib.Path(folder) / "kv-2k.jsonl"
            data.write_text("{}")
            models = [adapter.Model(name, None, name.startswith("ssa"), name) for name in names]
            args = argparse.Namespace(budgets=budgets, parts="main", only="", model=data, limit=0, dtype="auto")
            return {work.model.name: work for work in adapter.asked(args, adapter.plan(args, models, [("kv-2k", data)]))}

    def test_others_wait_for_the_first_gist_adapter(self):
        works = self.works(["ssa-sft", "full-sft", "ssa-cpt", "base"])
        self.assertEqual([works[name].needs and works[name].needs.model.name for name in ("ssa-sft", "full-sft", "ssa-cpt", "base")],
                         [None, "ssa-sft", None, "ssa-sft"])
        self.assertEqual(self.works(["ssa-sft", "ssa-cpt", "base"], "ssa-cpt")["base"].needs.model.name, "ssa-cpt")

    def test_keys_follow_budgets(self):
        self.assertNotEqual(self.works(["ssa-sft", "base"])["base"].key, self.works(["ssa-cpt", "base"])["base"].key)
        self.assertEqual(self.works(["ssa-sft", "base"])["base"].key, self.works(["ssa-sft", "ssa-cpt", "base"])["base"].key)


if __name__ == "__main__":
    unittest.main()
