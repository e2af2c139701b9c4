"""The encoding of a text that is not Unicode is guessed by its letters, or the user is asked."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import PrepareReport
from finetune.core.sections.data import Data
from finetune.data.encoding_guess import SURE, guess_encoding
from finetune.data.readers import read_rows
from finetune.data.text_encoding import is_utf8
from finetune.terminal.summaries import prepare_summary

MESSAGES = {
    "French": (
        "Le café est froid et la livraison a été retardée",
        "Où est mon colis ? Je suis très déçu",
        "J'ai reçu un article abîmé, je veux être remboursé",
        "Le délai est dépassé depuis trois semaines",
        "Votre site n'accepte pas ma carte",
        "À quelle heure ouvrez-vous le dimanche ?",
        "La facture ne correspond pas à ma commande",
        "Pouvez-vous changer l'adresse à Orléans ?",
        "C'est inadmissible, j'hésite à revenir",
        "Merci pour votre réponse rapide",
    ),
    "German": (
        "Können Sie die Rechnung für März ändern?",
        "Die Größe stimmt nicht",
        "Wo bleibt mein Paket? Ich warte schon länger",
        "Bitte schicken Sie mir eine Bestätigung",
        "Das Gerät läuft nicht mehr",
        "Ich möchte mein Geld zurück",
        "Ihre Öffnungszeiten sind falsch",
        "Der Schlüssel fehlt",
        "Danke für die schnelle Hilfe",
        "Leider ist die Ware beschädigt",
    ),
    "Spanish": (
        "¿Dónde está mi envío?",
        "Mañana no puedo recibir el paquete",
        "La dirección es errónea",
        "Quiero una devolución del artículo",
        "El teléfono no funciona",
        "¿Cuándo llegará mi pedido?",
        "Necesito la factura de este año",
        "Gracias por la información",
        "Está roto y pequeño",
        "No me gusta",
    ),
    "Polish": (
        "Gdzie jest moja przesyłka?",
        "Proszę o zwrot pieniędzy",
        "Towar jest uszkodzony, żądam wymiany",
        "Kiedy będzie dostępny ten produkt?",
        "Nie mogę się zalogować na konto",
        "Dziękuję za szybką odpowiedź",
        "Źle naliczona opłata",
        "Czy można zmienić adres?",
        "Właśnie otrzymałem fakturę",
        "Chciałbym zamówić więcej",
    ),
    "Russian": (
        "Где моя посылка?",
        "Я жду уже неделю",
        "Верните деньги, пожалуйста",
        "Товар пришёл повреждённым",
        "Как изменить адрес доставки?",
        "Не могу войти в личный кабинет",
        "Спасибо за быстрый ответ",
        "Когда будет в наличии?",
        "Счёт неправильный",
        "Хочу отменить заказ",
    ),
    "Turkish": (
        "Kargom nerede?",
        "İade işlemi için ne yapmalıyım",
        "Ürün kırık geldi",
        "Adresimi değiştirmek istiyorum",
        "Hesabıma giriş yapamıyorum",
        "Teşekkürler",
        "Faturam yanlış",
        "Siparişimi iptal edin",
        "Ne zaman açıksınız?",
        "Beden küçük geldi",
    ),
    "Greek": (
        "Πού είναι το δέμα μου;",
        "Περιμένω μια εβδομάδα",
        "Θέλω επιστροφή χρημάτων",
        "Το προϊόν είναι σπασμένο",
        "Δεν μπορώ να συνδεθώ",
        "Ευχαριστώ πολύ",
        "Το τιμολόγιο είναι λάθος",
        "Ακυρώστε την παραγγελία",
        "Πότε ανοίγετε;",
        "Το μέγεθος δεν κάνει",
    ),
    "Japanese": (
        "荷物はどこですか",
        "先週注文した商品がまだ届いていません",
        "領収書の宛名を変更してください",
        "返品したいです",
        "ログインできません",
        "支払い方法を変更したい",
        "営業時間を教えてください",
        "サイズが合わない",
        "アカウントを削除してください",
        "キャンセルできますか",
    ),
    "Korean": (
        "환불은 언제 받을 수 있나요",
        "주문한 상품이 아직 도착하지 않았습니다",
        "배송지를 변경하고 싶어요",
        "로그인이 안 됩니다",
        "영수증을 다시 보내 주세요",
        "제품이 파손되었습니다",
        "영업시간이 어떻게 되나요",
        "주문을 취소해 주세요",
        "사이즈가 맞지 않아요",
        "감사합니다",
    ),
    "Chinese": (
        "我的包裹在哪里",
        "请退款，谢谢",
        "商品已损坏，我要换货",
        "怎么修改收货地址",
        "无法登录账户",
        "什么时候有货",
        "发票金额不对",
        "请取消订单",
        "尺码不合适",
        "谢谢你的回复",
    ),
    "Chinese of Taiwan": (
        "我的包裹在哪裡",
        "請退款，謝謝",
        "商品已損壞，我要換貨",
        "怎麼修改收貨地址",
        "無法登入帳戶",
        "什麼時候有貨",
        "發票金額不對",
        "請取消訂單",
        "尺碼不合適",
        "謝謝您的回覆",
    ),
}
ENCODINGS = [
    ("French", "cp1252"),
    ("French", "mac_roman"),
    ("French", "cp850"),
    ("German", "cp1252"),
    ("German", "mac_roman"),
    ("German", "iso8859_15"),
    ("Spanish", "cp1252"),
    ("Spanish", "mac_roman"),
    ("Polish", "cp1250"),
    ("Polish", "iso8859_2"),
    ("Polish", "cp852"),
    ("Russian", "cp1251"),
    ("Russian", "koi8_r"),
    ("Russian", "mac_cyrillic"),
    ("Russian", "cp866"),
    ("Russian", "iso8859_5"),
    ("Turkish", "cp1254"),
    ("Greek", "cp1253"),
    ("Japanese", "cp932"),
    ("Japanese", "euc_jp"),
    ("Korean", "cp949"),
    ("Korean", "euc_kr"),
    ("Chinese", "gb18030"),
    ("Chinese", "gbk"),
    ("Chinese of Taiwan", "big5"),
    ("Chinese of Taiwan", "cp950"),
]


def table(messages: tuple[str, ...]) -> str:
    return "message,team\n" + "".join(f"{message},delivery\n" for message in messages)


def read(path: Path, **options: Any) -> tuple[list[str], dict[str, str]]:
    rows, note = read_rows(path, **options)
    return [row["message"] for row in rows], note


@pytest.mark.parametrize(("language", "encoding"), ENCODINGS)
def test_ten_messages_are_enough_to_know_the_encoding(tmp_path: Path, language: str, encoding: str) -> None:
    messages = tuple(message.replace(",", ";") for message in MESSAGES[language])
    (tmp_path / "a.csv").write_bytes(table(messages).encode(encoding))
    found, note = read(tmp_path / "a.csv")
    assert tuple(found) == messages
    assert SURE <= float(note["encoding_confidence"]) <= 1


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([pair for pair in ENCODINGS if pair != ("French", "cp850")]), st.data())
def test_a_few_messages_are_right_or_in_doubt(pair: tuple[str, str], data: st.DataObject) -> None:
    language, encoding = pair
    some = data.draw(st.lists(st.sampled_from(MESSAGES[language]), min_size=4, max_size=10, unique=True))
    content = table(tuple(some)).encode(encoding)
    guess = guess_encoding(content)
    assert guess
    assert guess.confidence < SURE or content.decode(guess.encoding) == content.decode(encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman"])
@pytest.mark.parametrize(
    "text",
    [
        "I’m still waiting for my parcel",
        "You charged me £20 twice",
        "It cost €50 – I don’t want it",
        "Is this “new”? I don’t think so…",
    ],
)
def test_english_with_typographic_signs_is_known(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(table((text, "Where is my parcel?")).encode(encoding))
    assert read(tmp_path / "a.csv")[0][0] == text


def test_a_cafe_of_a_mac_is_no_other_word(tmp_path: Path) -> None:
    """Read as cp1252 it would be "cafŽ"."""
    texts = ("Le café est froid", "Où est mon colis ?", "Je suis très déçu")
    (tmp_path / "a.csv").write_bytes(table(texts).encode("mac_roman"))
    assert tuple(read(tmp_path / "a.csv")[0]) == texts


def test_two_encodings_with_different_letters_are_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("message,team\n\u00c6,a\n".encode("cp1252"))
    with pytest.raises(FinetuneError, match=r"may be .+ or (.|\n)*data\.encoding"):
        read(path)
    assert read(path, encoding="cp1252")[0] == ["Æ"]
    assert "encoding_confidence" not in read(path, encoding="cp1252")[1]


def test_the_encoding_of_the_parameters_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("message,team\na,b\né,b\n".encode("cp1252"))
    with pytest.raises(FinetuneError, match=r"not UTF-8: .* in line 3"):
        read(path, encoding="utf-8")
    for name in ("cp9999", "rot13"):
        with pytest.raises(FinetuneError, match=r"data\.encoding"):
            read(path, encoding=name)


def test_a_letter_beyond_ascii_may_come_late(tmp_path: Path) -> None:
    texts = ("Where is my parcel?",) * 30_000 + MESSAGES["French"][:2]
    (tmp_path / "a.csv").write_bytes(table(texts).encode("mac_roman"))
    assert tuple(read(tmp_path / "a.csv")[0]) == texts


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_needs_no_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(table(("荷物はどこですか",)).encode(encoding))
    found, note = read(tmp_path / "a.csv")
    assert (found, note["encoding"]) == (["荷物はどこですか"], encoding)


def test_a_guess_is_printed() -> None:
    source = {"format": "CSV", "encoding": "mac-roman", "encoding_confidence": "0.93"}
    report: PrepareReport = {
        "rows": 1,
        "train": 1,
        "valid": 0,
        "test": 0,
        "account": {
            "rows": 1,
            "without_answer": 0,
            "examples": 1,
            "added": 0,
            "train": 1,
            "valid": 0,
            "test": 0,
            "duplicate": 0,
            "same_question": 0,
            "near_duplicate": 0,
        },
        "shares": {"train": 1.0, "valid": 0.0, "test": 0.0},
        "source": source,
        "prompt": None,
        "codes": {},
        "abstain": None,
        "completion": None,
    }
    data = Data.model_validate({"file": "data/raw/a.csv", "split": {"train": 0.8, "valid": 0.1, "test": 0.1}})
    printed = prepare_summary(report, data)
    assert "CSV, encoding mac-roman, encoding confidence 0.93" in printed
    assert "The encoding of data/raw/a.csv is a guess" in printed
    assert "data.encoding" in printed


GREETINGS = [f"Grüße an Frau Müller, Straße {n}" for n in range(30)]


@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        ([(GREETINGS, "utf-8"), (["Gruß aus Köln"], "cp1252")], "line 1 is UTF-8, and line 31 is not"),
        ([(GREETINGS, "cp1252"), (["Gruß"], "utf-8")], "line 31 is UTF-8, and line 1 is not"),
        ([(["Größe übrig"] * 30, "utf-8"), (["x\xff"], "latin-1")], "line 1 is UTF-8, and line 31 is not"),
        ([(["请问我的包裹到哪里了"], "utf-8"), (["请问我的包裹到哪里"], "gbk")], "line 1 is UTF-8, and line 2 is not"),
    ],
)
def test_a_file_in_two_encodings_is_refused_with_its_lines(
    tmp_path: Path, parts: list[tuple[list[str], str]], lines: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"".join("".join(f"{one}\n" for one in texts).encode(code) for texts, code in parts))
    with pytest.raises(FinetuneError, match=f"in two encodings: {lines}") as caught:
        read_rows(path)
    assert "data.encoding" not in str(caught.value)


def test_a_line_that_is_utf_8_by_chance_leaves_the_encoding(tmp_path: Path) -> None:
    texts = [*(f"请问我的包裹到哪里了, 第{n}号" for n in range(9)), "a 模", "l 联"]
    assert is_utf8("a 模".encode("gbk"))
    assert texts_of(tmp_path, texts, "gbk") == texts
    texts = [*(f"Où est le colis {n} ? Il n’est pas arrivé à côté" for n in range(9)), "l’équipe"]
    assert texts_of(tmp_path, texts, "mac-roman") == texts


def texts_of(folder: Path, texts: list[str], written: str, **options: str) -> list[str]:
    path = folder / "b.txt"
    path.write_bytes("".join(f"{text}\n" for text in texts).encode(written))
    return [row["text"] for row in read_rows(path, **options)[0]]  # type: ignore[arg-type]


def test_halves_of_letters_are_refused_and_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\nhello \xed\xa0\xbd\xed\xb8\x80\n")
    with pytest.raises(FinetuneError, match=r"halves of letters \(surrogates\) in line 2"):
        read_rows(tmp_path / "a.txt")


@pytest.mark.parametrize("encoding", ["iso2022_jp", "iso2022_kr"])
def test_letters_of_two_bytes_may_be_ascii_byte_by_byte(tmp_path: Path, encoding: str) -> None:
    texts = ["荷物はどこですか", "hello"] if encoding == "iso2022_jp" else ["배송은 언제 되나요", "hello"]
    assert texts_of(tmp_path, texts, encoding) == texts


@pytest.mark.parametrize(
    ("encoding", "given"), [("utf-8-sig", "utf-8"), ("utf-8-sig", "UTF8"), ("utf-16", "utf-16-le")]
)
def test_with_a_given_encoding_the_byte_order_mark_is_left_out(tmp_path: Path, encoding: str, given: str) -> None:
    assert texts_of(tmp_path, ["one", "two"], encoding, encoding=given) == ["one", "two"]
    with pytest.raises(FinetuneError, match="begins with the byte-order mark of UTF"):
        texts_of(tmp_path, ["one"], encoding, encoding="cp1252")


def test_capitals_of_windows_are_not_the_small_letters_of_a_mac() -> None:
    texts = (
        "Я жду уже неделю",
        "Как изменить адрес доставки?",
        "Не могу войти в личный кабинет",
        "Спасибо за быстрый ответ",
    )
    guess = guess_encoding(table(texts).encode("cp1251"))
    assert guess
    assert guess.encoding == "cp1251" or guess.confidence < SURE


def test_a_given_encoding_is_doubted_where_the_text_is_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Grüße an Frau Müller\n", encoding="utf-8")
    assert read_rows(tmp_path / "a.txt", encoding="cp1252")[1]["text is also valid as"] == "utf-8"
    assert "text is also valid as" not in read_rows(tmp_path / "a.txt", encoding="utf-8")[1]
    (tmp_path / "a.txt").write_text("Grüße an Frau Müller\n", encoding="cp1252")
    assert "text is also valid as" not in read_rows(tmp_path / "a.txt", encoding="cp1252")[1]
