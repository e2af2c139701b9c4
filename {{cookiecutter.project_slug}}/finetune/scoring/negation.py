"""Find classes that an answer names only to deny them or to ask about them: "not spam", "Is it spam?", "spam: no".

The words are those of the commonest languages. Where they deny something else, the answer cannot be read: it counts as
outside all classes, which is better than a guess.
"""

import regex

BEFORE_WORDS = (
    r"not|no|non|none|nothing|nobody|never|neither|nor|cannot|\w+n't|(?:is|are|was|do|does|did|ca|wo|could|would)nt"
    r"|without|except|excluding|unlikely|hardly|barely|rarely|than|instead|anti|lacks?|lacking|fail(?:s|ed)? to"
    r"|(?:far|free|apart|aside) (?:from|of)|doubt\w*|rul(?:es?|ed|ing) out|unsure|uncertain|whether|if"
    r"|unable to (?:tell|say|determine|decide|classify|judge|identify|confirm)"
    "|nicht|nichts|nie|niemals|kaum|kein|keine|keinen|keiner|keinem|keines|weder|ohne|statt|nein|ob"
    "|niet|niets|geen|nooit|zonder|inte|ikke|ingen|inget|aldrig|utan|ej|ei|eikä"
    "|ne|pas|rien|aucun|aucune|sans|jamais|ni|nada|nunca|tampoco|sin|ningún|ninguna"
    "|não|nem|sem|nenhum|nenhuma|né|senza|niente|nessun|nessuna|neanche|nu|nici|fără"
    "|bez|żaden|žádný|není|nejde|nepatří|nikoli|nincs|nije|nisu|nėra|nav|değil|hiç"
    r"|не|нет|ни|без|никогда|вряд|кроме|вместо|ні|немає|δεν|όχι|χωρίς|không|chẳng|bukan\w*|tidak|tanpa"
    "|नहीं|बिना|ليس|ليست|لا|غير|لم|لن|بدون|לא|אינו|אינה|אין|בלי|نه"
)
AFTER_WORDS = (
    r"not|\w+n't|nicht|kein|pas|no|não|niet|inte|ikke|nie|nem|değil|değildir|не|нет|नहीं|نیست|نہیں|ليس|לא|bukan|tidak"
    "|নয়|அல்ல|இல்லை|unlikely|improbable|impossible|absent|excluded|ruled out|ausgeschlossen|unwahrscheinlich"
)
CROSS = "[✗✘❌✖✕☒]"
NO_WORDS = (
    r"no|not|none|n|absent|unlikely|false|nein|nicht|non|nee|nej|não|нет|ні|nie|hay[ıi]r|否|不是|無|无|なし|いいえ|아니요|아니오"
    r"|0|0?[.,][0-4]\d*|[0-4]?\d(?:[.,]\d+)?\s*%"  # a score: "spam: 0", "spam (5%)"
)
CHINESE_BEFORE = (
    "不(?:是|属|屬|算|涉|认|認|应|應|该|該|能|会|會|像|太|可能|一定|必|觉得|覺得|构成|構成|等同|为|為)|没|沒|无法|無法|难以|難以"
    "|无关|無關|未必|并非|並非|绝非|絕非|而非|是否|别(?:把|当|将)|排除|除了"
)
CHINESE_AFTER = "吗|嗎|不(?:是|对|對|成立)|可能性(?:很|较|較|极|極|比较)?(?:低|小)|可以?排除"
JAPANESE_AFTER = (
    "な(?:い|く|かっ|さそ)|ませ[んぬ]|なし|無し|無関係|以外|かどうか|か否か|不明|可能性[はが][低少]|か(?=[。?]|$)"
)
KOREAN_AFTER = "아니|아닙|아닌|아님|않|없|못|모르|모릅|어렵|힘들|여부|제외|무관|대신"
PREFIXES = "不|非|未|無|无|미|비|무|불"
THAI_BEFORE = "ไม่|มิใช่|ບໍ່|មិន"
END = r"[.!?;,:|\n。、…—–]"  # of a clause
LONGEST_CLAUSE = 300  # letters that are looked at before and after a class
NEW_CLAUSE = r"\b(?:but|because|since|however|although|aber|weil|denn|mais|pero|porque|но)\b"
BEFORE = regex.compile(
    rf"(?:\b(?:{BEFORE_WORDS})\b|\bn')(?:(?!{END}|{NEW_CLAUSE}).)*$"
    rf"|(?:{CHINESE_BEFORE})(?:(?!{END}).){{0,10}}$"
    rf"|(?:{THAI_BEFORE})(?:(?!{END}|\s).){{0,24}}$"
    rf"|(?:{PREFIXES})$"
    rf"|(?:~~|[!¬≠]|{CROSS}[^\S\n]*)$",  # "~~spam~~", "!spam", "❌ spam"
    regex.S | regex.I,
)
AFTER = regex.compile(
    rf"['\"*`_)\]]*[^\S\n]*[:=(?-]\W*(?:{NO_WORDS})(?![\w.,%]*\w)"
    rf"|['\"*`_)\]]*[^\S\n]*[:=(?-]?[^\S\n]*{CROSS}"
    rf"|['\"*`_)\]]*[^\S\n]+(?:\w+[^\S\n]+){{0,2}}(?:{AFTER_WORDS})\b"
    rf"|(?:(?!{END}).){{0,16}}?(?:{JAPANESE_AFTER}|{KOREAN_AFTER}|{CHINESE_AFTER})"
    r"|\S{0,6}(?:หรือไม่|ไม่ได้|ไม่ใช่)"
    rf"|(?:(?!{END}).)*\?",
    regex.S | regex.I,
)
UNKNOWN = regex.compile(r"no (?:idea|clue|way to|(?:lo )?s[ée]|se sabe)\b|n[ãa]o sei\b|non (?:lo )?so\b", regex.I)
# "No" answers, and so does "is no"; in "no doubt" and in "There is no sign of it" it belongs to the next word.
DETERMINER = regex.compile(
    r"no (?:doubt|problem|evidence|information|one)\b"
    r"|(?<=\p{L}\s)(?<!\b(?:or|and|nor)\s)no (?!(?:because|since|as|it|this|that|the|s?he|they|there|i|we|you)\b)\p{L}",
    regex.I,
)


def is_denied(text: str, start: int, end: int) -> bool:
    """Return whether a part of a text is denied or asked about. `text` is folded (class_reading.py)."""
    if (phrase := UNKNOWN.match(text, start)) and phrase.end() > end:
        return True
    before, after = text[max(0, start - LONGEST_CLAUSE) : start], text[end : end + LONGEST_CLAUSE]
    return bool(BEFORE.search(before) or AFTER.match(after))


def is_determiner(text: str, start: int, end: int) -> bool:
    """Return whether a part of a text is "no" and belongs to the next word only."""
    return text[start:end].lower() == "no" and bool(DETERMINER.match(text, start))
