"""Find classes that an answer names only to deny them or to ask about them: "not spam", "Is it spam?", "spam: no".

The words are those of the commonest languages. Where they deny something else, the answer cannot be read: it counts as
outside all classes, which is better than a guess.
"""

import regex

BEFORE_WORDS = (
    r"not|no|non|never|neither|nor|cannot|\w+n't|without|except|excluding|unlikely|hardly|than|instead|anti"
    "|nicht|kein|keine|keinen|keiner|keinem|keines|weder|ohne|statt|nein|niet|geen|inte|ikke|ingen|inget|ej|ei"
    "|ne|pas|aucun|aucune|sans|jamais|nunca|sin|ningún|ninguna|não|nem|sem|nenhum|nenhuma|né|senza|nessun|nessuna"
    "|nie|bez|żaden|žádný|není|nikoli|nincs|nu|nici|değil|не|нет|ни|без|никогда|ні|немає|δεν|όχι|không|bukan|tidak"
    "|नहीं|ليس|ليست|لا|غير|לא|אינו|אין|نه"
)
AFTER_WORDS = (
    r"not|\w+n't|nicht|kein|pas|no|não|niet|inte|ikke|nie|nem|değil|değildir|не|нет|नहीं|نیست|ليس|לא|bukan|tidak"
)
NO_WORDS = "no|false|nein|non|nee|nej|não|нет|ні|nie|hay[ıi]r|否|いいえ|아니요|아니오"
PREFIXES = "不|非|未|無|无|미|비|무|불"  # directly before the class
SPACELESS_BEFORE = "不是|不属于|不屬於|不算|不涉及|没有|沒有|并非|並非|ไม่"  # a few signs before it
SPACELESS_AFTER = "ではな|じゃな|でな|ではあり|じゃあり|以外|아니|아닙|아닌|아님|않|없"
END = r"[.!?;,:|\n。、…—–]"  # of a clause
LONGEST_CLAUSE = 300  # letters that are looked at before a class
NEW_CLAUSE = r"\b(?:but|because|since|however|although|aber|weil|denn|mais|pero|porque|но)\b"
BEFORE = regex.compile(
    rf"(?:\b(?:{BEFORE_WORDS})\b|\bn')(?:(?!{END}|{NEW_CLAUSE}).)*$"
    rf"|(?:{SPACELESS_BEFORE})(?:(?!{END}).){{0,6}}$"
    rf"|(?:{PREFIXES})$",
    regex.S | regex.I,
)
AFTER = regex.compile(
    rf"['\"*`_)\]]*\s*[:=(?-]\W*(?:{NO_WORDS})\b"
    rf"|['\"*`_)\]]*\s+(?:\w+\s+){{0,2}}(?:{AFTER_WORDS})\b"
    rf"|(?:(?!{END}|\s).){{0,6}}\s?(?:{SPACELESS_AFTER})"
    rf"|(?:(?!{END}).)*\?",
    regex.S | regex.I,
)


def is_denied(text: str, start: int, end: int) -> bool:
    """Return whether a part of a text is denied or asked about. `text` is folded (class_reading.py)."""
    return bool(BEFORE.search(text[max(0, start - LONGEST_CLAUSE) : start]) or AFTER.match(text, end))
