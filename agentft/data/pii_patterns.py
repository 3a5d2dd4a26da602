"""Personal data in a text: patterns, each with the check that tells a real one from a number that only looks like it.

Sources: Luhn (ISO/IEC 7812-1), IBAN (ISO 13616, mod 97-10 of ISO 7064), Chinese resident id (GB 11643-1999, mod 11-2 of
ISO 7064), E.164 and the national numbering plans for phones, SSA's rules for social security numbers.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection
from datetime import date
from typing import Literal, NamedTuple, get_args

PiiType = Literal["email", "cn_id", "iban", "card", "ssn", "ip", "phone"]
# In this order: what has the stricter check is looked for first, and what is found is not looked at again.
TYPES: tuple[str, ...] = get_args(PiiType)

# Fullwidth forms, and the hyphens and blanks that word processors put into numbers; one character each, so places stay.
_FOLD = str.maketrans("０１２３４５６７８９＠．：－（）＋ｘＸ\u2010\u2011\u2012\u2013\u00a0\u2009\u202f", "0123456789@.:-()+xX----   ")
_BEFORE = 28  # characters in front of a number that are searched for the word which says what it is

# A number behind one of these is no phone number, however it looks; the word stands right before it.
_OTHER_NUMBER = re.compile(
    r"(?:order|invoice|ticket|case|ref(?:erence)?|tracking|parcel|serial|booking|confirmation|transaction|account|acct|policy|flight"
    r"|model|item|part|sku|isbn|ean|code|pin|id|version|ssn|card|routing)s?(?:\s*(?:number|no\.?|code|id|nr\.?|#))?\s*(?:is|was|:|#|=)?\s*[#:]?\s*$"
    r"|[#$€£¥￥]\s*$|(?:订单|单号|编号|流水|快递|运单|工单|账号|帐号|卡号|验证码|序列|型号|票号|合同|金额|价格|邮编|密码)[号码为是:：\s]*$",
    re.IGNORECASE,
)
# Behind one of these ten digits in a row are a phone number.
_PHONE_WORD = re.compile(
    r"(?:phone|mobile|cell|tele?|call|dial|text|sms|whatsapp|fax|contact|reach|ring|hotline|(?:my|your|his|her|our|their) number)\w*"
    r"(?:\s+(?:me|us|him|her|them|number|no\.?|nr\.?|is|at|on|you|back|can|be))*\s*[:=]?\s*\(?$"
    r"|(?:电话|手机|座机|联系|拨打|致电|来电|传真|热线|微信)[^\d，。；,;]{0,6}$",
    re.IGNORECASE,
)
_VERSION_WORD = re.compile(
    r"(?:\bv|\b(?:version|ver|release|build|firmware|section|sec|chapter|clause|update)s?\.?|§|版本|第|固件|章节)[\s:：]*(?:号)?\s*$",
    re.IGNORECASE,
)
_SSN_WORD = re.compile(r"(?:\bssn|social\s+security)\b[^\d\n]{0,24}$", re.IGNORECASE)
# Behind these a number is taken for what it is called, even where its checksum says that it was mistyped.
_CARD_WORD = re.compile(
    r"(?:card|visa|mastercard|amex|credit|debit)(?:\s+(?:card|number|numbers|no\.?|nr\.?|is|was|num)){0,3}\s*[:=]?\s*$|(?:卡号|信用卡|银行卡)[号码为是:：\s]*$",
    re.IGNORECASE,
)
_CN_ID_WORD = re.compile(r"身份证(?:件)?[号码为是:：\s]*$")
_UNIT = re.compile(
    r"\s*(?:元|块|美元|人民币|円|件|人|次|公里|千克|公斤|字节|%|％|km\b|kg\b|usd\b|eur\b|dollars?\b|euros?\b|bytes?\b)", re.IGNORECASE
)


class Found(NamedTuple):
    """A piece of personal data: ``text[start:end]`` is of the type ``kind``."""

    start: int
    end: int
    kind: str


def find(text: str, types: Collection[str] = TYPES) -> list[Found]:
    """Personal data in ``text`` by place; pieces do not overlap."""
    if not any(character.isdigit() or character in "@＠:" for character in text):
        return []
    folded = text.translate(_FOLD)
    found: list[Found] = []
    for kind in TYPES:
        if kind not in types:
            continue
        pattern, check = _RULES[kind]
        for match in pattern.finditer(folded):
            end = check(folded, match)
            if end > match.start() and not any(match.start() < other.end and other.start < end for other in found):
                found.append(Found(match.start(), end, kind))
    return sorted(found)


# Checksums


def luhn(digits: str) -> bool:
    """Luhn's check of ISO/IEC 7812-1: every second digit from the right doubled, digits of the products summed, a multiple of 10."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_valid(compact: str) -> bool:
    """Length of the country, and mod 97 = 1 with the first four characters moved to the end and letters as 10 to 35."""
    moved = compact[4:] + compact[:4]
    return len(compact) == _IBAN_LENGTH.get(compact[:2]) and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def cn_id_valid(number: str) -> bool:
    """Province, date of birth and check digit (weights 2^(17-i) mod 11) of an 18-character Chinese resident id."""
    if number[:2] not in _CN_PROVINCES:
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * pow(2, 17 - index, 11) for index, digit in enumerate(number[:17]))
    return 1900 <= born.year <= 2099 and "10X98765432"[total % 11] == number[17].upper()


_CN_PROVINCES = frozenset(
    f"{region}{number}" for region, last in zip("123456", (5, 3, 7, 6, 4, 5), strict=True) for number in range(1, last + 1)
)
_CN_PROVINCES |= {"50", "71", "81", "82", "83"}
_IBAN_LENGTH = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
    }.items()
    for country in countries.split()
}


# Checks: (folded text, match) -> where the piece ends, or -1


def _before(text: str, match: re.Match[str]) -> str:
    return text[max(0, match.start() - _BEFORE) : match.start()]


def _yes(text: str, match: re.Match[str]) -> int:
    return match.end()


def _cn_id(text: str, match: re.Match[str]) -> int:
    valid = cn_id_valid(re.sub(r"[ -]", "", match.group())) or _CN_ID_WORD.search(_before(text, match))
    return match.end() if valid else -1


def _iban(text: str, match: re.Match[str]) -> int:
    """The match may go on into the next words; the country's length says where the number ends."""
    wanted = _IBAN_LENGTH.get(match.group()[:2].upper(), 0)
    compact, end = "", match.start()
    for character in match.group():
        if len(compact) == wanted:
            break
        end += 1
        compact += character if character not in " -" else ""
    following = text[end : end + 1]
    return end if iban_valid(compact.upper()) and not (following.isascii() and following.isalnum()) else -1


# Lengths by first digits (issuer identification numbers). Luhn alone lets one of ten order numbers pass.
_ISSUERS = (
    (re.compile(r"4"), (13, 16, 19)),  # Visa
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)"), (16,)),  # Mastercard
    (re.compile(r"3[47]"), (15,)),  # American Express
    (re.compile(r"3(?:0[0-5]|095|[689])"), (14, 16, 19)),  # Diners Club
    (re.compile(r"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),  # JCB
    (re.compile(r"6(?:011|5|4[4-9])|62|81"), (16, 17, 18, 19)),  # Discover, UnionPay
    (re.compile(r"5[0678]|6[037]"), (13, 14, 15, 16, 17, 18, 19)),  # Maestro
)


def _card(text: str, match: re.Match[str]) -> int:
    digits = re.sub(r"\D", "", match.group())
    issued = any(prefix.match(digits) and len(digits) in lengths for prefix, lengths in _ISSUERS)
    return match.end() if (issued and luhn(digits)) or _CARD_WORD.search(_before(text, match)) else -1


def _ssn(text: str, match: re.Match[str]) -> int:
    before = _before(text, match)
    if "-" not in match.group():
        return match.end() if _SSN_WORD.search(before) else -1
    return -1 if _OTHER_NUMBER.search(before) and not _SSN_WORD.search(before) else match.end()


def _ip(text: str, match: re.Match[str]) -> int:
    try:
        address = ipaddress.ip_address(match.group())
    except ValueError:
        return -1
    if address.is_loopback or address.is_unspecified or str(address) == "255.255.255.255":
        return -1  # nobody's
    if address.version == 4:
        return -1 if _VERSION_WORD.search(_before(text, match)) else match.end()
    # `a::b` is a name in C++ more often than an address.
    groups = [group for group in match.group().split(":") if group]
    return match.end() if len(groups) >= 3 or any(len(group) == 4 for group in groups) else -1


def _phone(text: str, match: re.Match[str]) -> int:
    form = match.lastgroup
    digits = re.sub(r"\D", "", match.group(form or 0))
    before = _before(text, match)
    said = bool(_PHONE_WORD.search(before))
    if form != "international":
        if _OTHER_NUMBER.search(before) and not said:
            return -1
        if _UNIT.match(text, match.end()):
            return -1
    if form == "international" and not 8 <= len(digits) - 2 * digits.startswith("00") <= 15:
        return -1
    if form == "national" and not 9 <= len(digits) <= 12:
        return -1
    if form == "bare" and not said:
        return -1
    return -1 if _toll_free(digits, form or "") else match.end()


def _toll_free(digits: str, form: str) -> bool:
    """Numbers that only organisations have; an agent must be able to tell them."""
    american = ("800", "888", "877", "866", "855", "844", "833")
    if form == "international":
        return digits.removeprefix("00").startswith((*("1" + code for code in american), "86400", "86800", "44800", "49800"))
    if form in ("american", "bare"):
        rest = digits.removeprefix("1")
        return len(rest) == 10 and rest.startswith((*american, "400"))
    return form == "national" and digits.startswith("0800")


_A = "A-Za-z0-9"
_EMAIL = re.compile(
    rf"(?<![{_A}._%+-])[{_A}_][{_A}._%+-]{{0,63}}@(?:[{_A}](?:[{_A}-]{{0,61}}[{_A}])?\.){{1,8}}[A-Za-z]{{2,24}}(?![{_A}]|-[{_A}])"
)
_CN_ID = re.compile(rf"(?<![{_A}])[1-8]\d{{5}}[ -]?(?:19|20)\d{{6}}[ -]?\d{{3}}[0-9Xx](?![{_A}])", re.ASCII)
_IBAN = re.compile(rf"(?<![{_A}])[A-Za-z]{{2}}\d{{2}}(?:[ -]?[{_A}]){{11,34}}", re.ASCII)
# In a row, or in the groups that cards are printed in.
_CARD = re.compile(
    r"(?<![\dA-Za-z])(?<!\d[ .,-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?|\d{4}[ -]\d{6}[ -]\d{4,5}|\d{6}[ -]\d{13})"
    r"(?![\dA-Za-z])(?![ -]\d)",
    re.ASCII,
)
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}([- ]?)(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])", re.ASCII)
_IP = re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?![\w]|\.\d)"
    r"|(?<![\w:.])(?=[0-9A-Fa-f:]{0,4}:[0-9A-Fa-f:])[0-9A-Fa-f:]{3,39}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?(?<!:)(?![\w:]|\.\w)",
    re.ASCII,
)
_PHONE = re.compile(
    r"(?<![\dA-Za-z+])(?<!\d[.-])(?:"
    # +49 (0)30 1234567, 0086-138-0013-8000
    r"(?P<international>(?:\+|(?<!\d )00(?=[1-9]\d{0,2}[ ./()-]))\(?[1-9]\d{0,2}\)?(?:[ ./-]{0,2}\(?\d{1,5}\)?){2,7})"
    # Chinese mobiles: 13800138000, 138 0013 8000
    r"|(?P<mobile>1[3-9]\d([ -]?)\d{4}\3\d{4})"
    # Chinese landlines, with an extension: 010-62345678转801, (0571)87654321
    r"|(?P<landline>\(?0(?:10|2\d|[3-9]\d{2})\)?[ -]{0,2}[2-8]\d{6,7}(?:(?:转|[ -]?ext\.?|[ -]x)[ ]?\d{1,5})?)"
    # (415) 555-2671, 415-555-2671, 1.415.555.2671
    r"|(?P<american>(?:1[ .-])?(?:\([2-9]\d{2}\)[ ]?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}(?:[ ]?(?:ext\.?|x)[ ]?\d{1,5})?)"
    # Other countries, with the zero of long distance: 020 7946 0958, 0171-1234567
    r"|(?P<national>(?<!\d )\(?0[1-9]\d{1,3}\)?[ /-]{1,2}\d{3,8}(?:[ -]\d{2,5}){0,3})"
    # Digits in a row: only where a word says that it is a phone number
    r"|(?P<bare>1?\d{7,11})"
    r")(?![\dA-Za-z])(?![.,-]\d)",
    re.ASCII,
)

_RULES: dict[str, tuple[re.Pattern[str], Callable[[str, re.Match[str]], int]]] = {
    "email": (_EMAIL, _yes),
    "cn_id": (_CN_ID, _cn_id),
    "iban": (_IBAN, _iban),
    "card": (_CARD, _card),
    "ssn": (_SSN, _ssn),
    "ip": (_IP, _ip),
    "phone": (_PHONE, _phone),
}
