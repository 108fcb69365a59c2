"""What an experiment found, for people: a report that stands alone, curve, tables, a table for the terminal."""

from medssl.report.files import publish
from medssl.report.html import render_report, write_report
from medssl.report.model_card import model_card, write_predictor
from medssl.report.terminal import terminal_table

__all__ = ["model_card", "publish", "render_report", "terminal_table", "write_predictor", "write_report"]
