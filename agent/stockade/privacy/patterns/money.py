"""Cards, accounts, wallets and amounts."""

from __future__ import annotations

from stockade.privacy.patterns import checks, wallets
from stockade.privacy.patterns.subject import Pattern

_ACCOUNT = (
    r"(?i)\b(?:acc(?:oun)?t|a/c|bank|checking|savings|konto|compte|cuenta|conto|iban|deposit|wire|beneficiary|payee|direct debit|"
    r"customer (?:no|number|id))\b"
)
_BANK_TLD = (
    "AD AE AL AT AU BA BE BG BR CA CH CN CY CZ DE DK EE ES FI FR GB GR HK HR HU IE IL IN IS IT JP KR LI LT LU LV MC MT MX NL NO NZ PL PT "
    "RO RS RU SA SE SG SI SK TR UA US ZA"
)
_COUNTRY = "(?:" + "|".join(_BANK_TLD.split()) + ")"


def _bitcoin(text: str) -> bool:
    return wallets.bech32(text) if text.lower().startswith(("bc1", "tb1", "ltc1")) else wallets.base58check(text)


def _solana(text: str) -> bool:
    return len(set(text)) > 15 and any(c.isdigit() for c in text) and any(c.isupper() for c in text) and any(c.islower() for c in text)


PATTERNS = (
    Pattern(
        "card",
        "financial.card",
        r"([1-9](?:[ .\-]?[0-9]){11,18})",
        score=0.9,
        trim=checks.card_within,
        near=r"(?i)\b(?:card|credit|debit|visa|master ?card|amex|american express|discover|diners|jcb|maestro|cc|ccn|pan|payment|karte|"
        r"carte|tarjeta|carta|kort|exp(?:iry|ires|iration|\.)?|cvv|cvc)\b",
        lifted=1.0,
        beside="w-.",
        says="payment card: issuer range, length and Luhn",
    ),
    Pattern(
        "card-short",
        "financial.card",
        r"(?i)(?:cards?|visa|master ?card|amex)[^\n0-9]{0,24}(?:ending(?: in)?|last (?:4|four)(?: digits)?|x{4}|"
        r"\*{4})[ :#\-*xX]{0,16}([0-9]{4})\b",
        score=0.75,
        hints=("card", "visa", "amex"),
        says="the last four digits of a card",
    ),
    Pattern(
        "card-check",
        "financial.card",
        r"(?i)\b(?:cvv2?|cvc2?|card verification(?: code| value)?|security code)\b[\"']?(?: (?:is|code|"
        r"number))?[\s:=#\"']{1,4}([0-9]{3,4})\b",
        score=0.9,
        hints=("cvv", "cvc", "card verification", "security code"),
        says="the verification code of a card",
    ),
    Pattern(
        "card-typed",
        "financial.card",
        r"(?i)\b(?:credit[ _-]?card|debit[ _-]?card|card)[ _-]?(?:no\b\.?|num(?:ber)?|"
        r"#)?[\"']?(?: is)?[\s:=#\"']{1,4}([0-9](?:[ -]?[0-9]){12,18})\b",
        score=0.8,
        hints=("card",),
        says="a number that is called a card number, whatever its checksum",
    ),
    Pattern(
        "iban",
        "financial.iban",
        r"(?i)\b([a-z]{2}[0-9]{2}(?:[ \-]?[a-z0-9]){11,30})",
        score=1.0,
        trim=checks.iban_within,
        beside="w",
        says="IBAN: country, length, mod 97",
    ),
    Pattern(
        "iban-typed",
        "financial.iban",
        r"(?i)\biban\b[\"']?(?: (?:is|no\.?|number))?[\s:=#\"']{1,4}([a-z]{2}[0-9]{2}(?: ?[a-z0-9]){11,30})\b",
        score=0.85,
        hints=("iban",),
        says="what is called an IBAN, whatever its checksum",
    ),
    Pattern(
        "routing",
        "financial.account",
        r"\b([0-9]{9})\b",
        check=checks.aba,
        near=r"(?i)\b(?:routing|aba|rtn|transit|fedwire|ach)\b",
        required=True,
        beside=".-",
        says="ABA routing number: checksum, with context",
    ),
    Pattern(
        "account",
        "financial.account",
        r"(?i)\b(?:(?:bank|checking|savings|customer|client|deposit|brokerage|loan|billing|investment|credit|payroll|trading)[ _-]{0,2})?"
        r"(?:acc(?:oun)?t|a/c|konto(?:nummer)?|compte|cuenta|conto|rekening(?:nummer)?)(?:[ _-]?(?:number|num|nr|no|id|#))?\.?"
        r"[\"']?(?: is| are| of| ending in)?[\s:=#\"'*xX\-]{1,8}([0-9](?:[ \-]?[0-9]){3,17})\b",
        score=0.85,
        hints=("acc", "a/c", "konto", "compte", "cuenta", "conto", "rekening"),
        beside=".",
        says="an account number by its label",
    ),
    Pattern(
        "account-lettered",
        "financial.account",
        r"(?i)\b(?:account|acct|customer|client|policy|claim|loan|invoice|contract|portfolio)[ _-]?(?:number|num|nr|no|id|ref(?:erence)?|"
        r"#)\.?[\"']?(?: is)?[\s:=#\"']{1,4}"
        r"((?:[a-z]{1,6}[-/ ]?)?[0-9][a-z0-9\-/]{3,20}[0-9])\b",
        score=0.7,
        hints=("account", "acct", "customer", "client", "policy", "claim", "loan", "invoice", "contract", "portfolio"),
        says="a customer, policy or contract number by its label",
    ),
    Pattern(
        "sort-code",
        "financial.account",
        r"\b([0-9]{2}[- ][0-9]{2}[- ][0-9]{2})\b",
        near=r"(?i)\bsort(?:[ -]?code)?\b",
        required=True,
        before=30,
        after=0,
        beside="-/",
        says="UK sort code with context",
    ),
    Pattern(
        "bic",
        "financial.account",
        r"\b([A-Z]{4}" + _COUNTRY + r"[A-Z0-9]{2}(?:[A-Z0-9]{3})?)\b",
        near=r"(?i)\b(?:bic|swift)(?:/(?:bic|swift))?(?:[ -]?code)?\b",
        required=True,
        before=40,
        after=12,
        digit=False,
        says="BIC with context",
    ),
    Pattern(
        "bitcoin",
        "financial.crypto",
        r"\b([13][1-9A-HJ-NP-Za-km-z]{25,34}|(?:bc1|tb1|ltc1)[02-9ac-hj-np-z]{11,87}|(?:BC1|LTC1)[02-9AC-HJ-NP-Z]{11,87}|"
        r"[LMD9A][1-9A-HJ-NP-Za-km-z]{26,34}|r[1-9A-HJ-NP-Za-km-z]{24,34}|T[1-9A-HJ-NP-Za-km-z]{33})\b",
        score=1.0,
        check=_bitcoin,
        says="wallet addresses with base58check or bech32 checksums: Bitcoin, Litecoin, Dogecoin, Tron …",
    ),
    Pattern(
        "ethereum",
        "financial.crypto",
        r"\b(0x[0-9a-fA-F]{40})\b",
        score=0.95,
        check=wallets.ethereum,
        says="Ethereum address: EIP-55 checksum in the letters' case",
    ),
    Pattern(
        "wallet",
        "financial.crypto",
        r"\b([1-9A-HJ-NP-Za-km-z]{25,95}|(?:addr1|cosmos1|bnb1|terra1|stake1)[02-9ac-hj-np-z]{38,103})\b",
        check=_solana,
        near=r"(?i)\b(?:wallet|solana|sol|bitcoin|btc|monero|xmr|ripple|xrp|cardano|ada|polkadot|litecoin|dogecoin|tron|crypto|"
        r"send .{0,20}\bto)\b",
        required=True,
        score=0.7,
        lifted=0.8,
        beside="/",
        says="other wallet addresses with context",
    ),
    Pattern(
        "amount",
        "financial.amount",
        r"(?i)((?:[$€£¥₹]|\b(?:usd|eur|gbp|chf|jpy|inr|cad|aud|sek|nok|dkk|"
        r"pln))[ \x{a0}]?[0-9]{1,3}(?:[,.' ]?[0-9]{3}){0,4}(?:[.,][0-9]{2})?\b(?: ?(?:k|m|bn|million|billion)\b)?"
        r"|\b[0-9]{1,3}(?:[,.' ]?[0-9]{3}){0,4}(?:[.,][0-9]{2})?[ \x{a0}]?(?:€|£|(?:usd|eur|gbp|chf|jpy|inr|cad|aud|sek|nok|dkk|pln|"
        r"euros?|dollars|pounds)\b))",
        near=r"(?i)\b(?:salary|income|balance|transfer(?:red)?|wired?|transaction|paid|payment|invoice|owes?|debt|loan|mortgage|"
        r"deposit(?:ed)?|withdr[ae]w(?:al|n)?|earns?|net worth|credit limit|premium|refund)\b",
        required=True,
        score=0.6,
        lifted=0.6,
        before=60,
        says="an amount of a described transaction or account",
    ),
)
