"""Lab values, vital signs, drugs with their doses, diagnoses and their codes."""

from __future__ import annotations

from training.values.drawn import Drawn
from training.values.lists import listed

LABS = [
    ("HbA1c", 4.5, 13, "%"),
    ("hemoglobin", 6, 17, "g/dL"),
    ("Hgb", 6, 17, "g/dL"),
    ("creatinine", 0.5, 7, "mg/dL"),
    ("eGFR", 10, 120, "mL/min/1.73m2"),
    ("TSH", 0.01, 25, "mIU/L"),
    ("WBC", 2, 24, "K/uL"),
    ("WBC", 2, 24, "x10^9/L"),
    ("platelets", 40, 500, "K/uL"),
    ("potassium", 2.5, 6.5, "mmol/L"),
    ("K+", 2.5, 6.5, "mEq/L"),
    ("sodium", 120, 150, "mmol/L"),
    ("LDL", 50, 250, "mg/dL"),
    ("glucose", 50, 450, "mg/dL"),
    ("CRP", 1, 200, "mg/L"),
    ("troponin", 0.01, 9, "ng/mL"),
    ("BNP", 50, 3000, "pg/mL"),
    ("INR", 0.9, 6, ""),
    ("ALT", 10, 400, "U/L"),
    ("AST", 10, 400, "U/L"),
    ("ferritin", 5, 900, "ng/mL"),
    ("PSA", 0.2, 60, "ng/mL"),
    ("vitamin D", 6, 60, "ng/mL"),
    ("lactate", 0.6, 9, "mmol/L"),
    ("bilirubin", 0.3, 12, "mg/dL"),
    ("D-dimer", 200, 4000, "ng/mL"),
    ("A1c", 4.5, 13, "%"),
    ("LVEF", 15, 65, "%"),
    ("viral load", 20, 90000, "copies/mL"),
    ("CD4", 40, 900, "cells/uL"),
    ("uric acid", 3, 12, "mg/dL"),
    ("hCG", 5, 9000, "mIU/mL"),
    ("ESR", 2, 110, "mm/h"),
    ("K", 2.5, 7.0, ""),
    ("Na", 118, 155, ""),
    ("Cr", 0.5, 8, ""),
    ("Hb", 6, 17, ""),
    ("plt", 20, 500, ""),
    ("A1c", 5, 13, ""),
    ("TSH", 0.1, 20, ""),
    ("troponin", 0.01, 9, ""),
    ("lactate", 0.8, 9, ""),
    ("creatinine", 0.6, 6, ""),
    ("EF", 15, 60, "%"),
    ("sats", 80, 99, "%"),
]


class Clinical(Drawn):
    def dose(self) -> str:
        return f"{self.rng.choice([1, 2, 5, 10, 20, 25, 40, 50, 81, 100, 200, 250, 400, 500, 800, 1000])}{self.rng.choice([' mg', 'mg', ' mg', ' mcg', ' units', ' g'])}"

    def lab_name(self) -> str:
        return str(self.rng.choice(LABS)[0])

    def lab(self) -> str:
        """A measured value with its unit."""
        name, low, high, unit = self.rng.choice(LABS)
        value = self.rng.uniform(low, high)
        number = f"{value:.1f}" if high < 30 else f"{value:.0f}"
        return f"{name}{self.rng.choice([' ', ' ', ': ', ' of ', '=', ' is ', ' was '])}{number}{self.rng.choice([' ', ''])}{unit}".rstrip()

    def vital(self) -> str:
        rng = self.rng
        return rng.choice(
            [
                f"BP {rng.randint(85, 200)}/{rng.randint(45, 115)}",
                f"BP {rng.randint(85, 200)}/{rng.randint(45, 115)} mmHg",
                f"HR {rng.randint(45, 150)}",
                f"SpO2 {rng.randint(80, 100)}%",
                f"temp {rng.uniform(35.5, 40.5):.1f} C",
                f"RR {rng.randint(10, 34)}",
                f"BMI {rng.uniform(16, 48):.1f}",
                f"O2 sat {rng.randint(80, 100)}% on room air",
                f"T {rng.uniform(96, 104):.1f}F",
                f"weight {rng.randint(40, 150)} kg",
                f"pain {rng.randint(1, 10)}/10",
                f"GCS {rng.randint(3, 15)}",
            ]
        )

    def drug(self) -> str:
        return self.rng.choice(listed("drugs", self.split))

    def medication(self) -> str:
        """A drug with or without its dose and times."""
        dose = self.rng.choice(
            [
                "5 mg",
                "10 mg",
                "20mg",
                "25 mg",
                "40 mg",
                "50 mcg",
                "81 mg",
                "100mg",
                "250 mg",
                "500 mg",
                "1 g",
                "10 units",
                "2 puffs",
                "875/125 mg",
            ]
        )
        times = self.rng.choice(
            [
                "",
                "",
                " daily",
                " BID",
                " TID",
                " q8h",
                " PO daily",
                " IV",
                " once daily",
                " at bedtime",
                " PRN",
                " twice a day",
                " nightly",
                " x 7 days",
            ]
        )
        return self.drug() if self.rng.random() < 0.4 else f"{self.drug()} {dose}{times}"

    def disease(self) -> str:
        return self.rng.choice(listed("diseases", self.split))

    def icd(self) -> str:
        return self.one(
            [
                "@##",
                "@##.#",
                "@##.##",
                "@##.#",
                "I10",
                "E11.9",
                "J45.909",
                "F32.1",
                "C50.911",
                "M54.5",
                "S##.##XA",
                "Z##.#",
                "N18.3",
                "@##.###",
            ]
        )
