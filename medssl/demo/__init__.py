"""Virtual patients: the embedded default, which needs no scans and no network."""

from medssl.demo.contrasts import make_virtual_contrasts
from medssl.demo.patients import make_virtual_patients
from medssl.demo.run import run_demo

__all__ = ["make_virtual_contrasts", "make_virtual_patients", "run_demo"]
