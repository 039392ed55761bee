"""The page of a rollout: `page` puts it together, one module for each part of it."""

from coalmine.audit.report.commits import Commits
from coalmine.audit.report.head import sentence
from coalmine.audit.report.page import PAGE, render, write_report

__all__ = ["PAGE", "Commits", "render", "sentence", "write_report"]
