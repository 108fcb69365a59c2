"""What protects patients: dates and ages (`about`), flags (`flags`, `burned_in`), `link` and `deidentify`."""
