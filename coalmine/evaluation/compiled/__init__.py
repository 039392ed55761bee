"""A fitted scikit-learn model, translated into what answers the same and many times faster.

`translate` writes a plan, and a graph of trees where there are trees; `model` reads them and needs
numpy and onnxruntime alone, so that a server starts without pandas, scikit-learn and scipy. What
cannot be translated exactly is said so in plain words (`NotTranslatable`), and scikit-learn answers.
docs/decisions/0011-a-translated-model-answers-where-it-is-exact.md says why it is made this way.
"""
