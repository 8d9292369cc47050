"""Which listed values and which templates belong to which split, and Faker's pools of values.

A value belongs to one split for good, by a checksum of itself: of ten, one is for test, one for dev, eight for training.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from faker import Faker

HERE = Path(__file__).parent.parent
SPLITS = ("train", "dev", "test")
LATIN = (
    "en_US en_GB en_CA en_AU en_IE en_NZ en_IN en_KE en_NG en_PK en_TH de_DE de_AT de_CH fr_FR fr_CH fr_CA fr_BE es_ES es_MX es_AR es_CO es_CL pt_BR pt_PT "
    "it_IT nl_NL nl_BE sv_SE no_NO da_DK fi_FI pl_PL cs_CZ sk_SK hu_HU ro_RO hr_HR sl_SI tr_TR id_ID vi_VN fil_PH et_EE lt_LT lv_LV az_AZ "
    "zu_ZA yo_NG ha_NG ig_NG tw_GH fr_DZ ga_IE sq_AL uz_UZ fr_SN so_SO sw"
).split()
OTHER_SCRIPTS = "ru_RU uk_UA bg_BG el_GR ar_EG he_IL fa_IR hi_IN ja_JP zh_CN ko_KR ta_IN".split()


def split_of(value: str) -> str:
    """The split a listed value or a template belongs to."""
    return ("test", "dev")[digit] if (digit := zlib.crc32(value.lower().encode()) % 10) < 2 else "train"


def keep(values: Iterable[str], split: str) -> list[str]:
    """The values of a split, each once, in an order that does not change."""
    kept = sorted({v.strip() for v in values if v and v.strip() and split_of(v.strip()) == split})
    if not kept:
        raise ValueError(f"no value is left for {split}")
    return kept


@cache
def listed(name: str, split: str) -> list[str]:
    """The lines of lists/NAME.txt that belong to a split; `#` begins a comment."""
    lines = (HERE / "lists" / f"{name}.txt").read_text("utf-8").splitlines()
    return keep((line for line in lines if not line.startswith("#")), split)


@cache
def locales() -> dict[str, Faker]:
    """A generator per locale that this Faker knows."""
    made = {}
    for name in LATIN + OTHER_SCRIPTS:
        try:
            made[name] = Faker(name)
        except (AttributeError, ImportError, ValueError):
            continue
    return made


UNSTEADY = {("city", "it_IT")}
"""What Faker draws from a set: another order in every process. The same seed must give the same texts, so these are left out."""


@cache
def pool(method: str, split: str, locale: str, many: int = 400) -> list[str]:
    """Values of one of Faker's methods in one locale, of one split."""
    if (method, locale) in UNSTEADY:
        return []
    fake = locales()[locale]
    fake.seed_instance(f"{method}/{locale}")
    values = []
    for _ in range(many):
        try:
            values.append(str(getattr(fake, method)()))
        except (AttributeError, NotImplementedError, IndexError):
            break
    mine = [v for v in dict.fromkeys(values) if split_of(v) == split]
    return sorted(mine)


@cache
def cities(split: str) -> list[str]:
    return keep((HERE / "data" / "cities.txt").read_text("utf-8").splitlines(), split)
