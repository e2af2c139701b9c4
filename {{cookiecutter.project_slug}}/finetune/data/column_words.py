"""Names of columns in several languages that say what a column is for."""

import re
import unicodedata

# Words, the most telling ones first.
ANSWERS = """
answer answers completion output response reply target expected gold label labels class category intent sentiment team
tag topic summary translation assistant
回答 答え 応答 返信 返答 出力 正解 ラベル 分類 カテゴリ 担当 要約
답변 대답 응답 출력 정답 라벨 레이블 분류 카테고리 담당 요약
答案 回复 输出 标签 类别 分类 摘要
réponse antwort respuesta risposta resposta étiquette etiqueta kategorie categoría catégorie categoria
ответ метка категория класс
"""
QUESTIONS = """
question prompt instruction message text query body input content review email sentence hypothesis document passage
context description comment body title subject human
質問 問い 問題 メッセージ 本文 入力 テキスト 文章 内容 件名
질문 문의 메시지 본문 입력 텍스트 문장 지문 내용 제목
问题 消息 正文 输入 文本 句子 内容 标题
frage nachricht pregunta mensaje texto domanda messaggio testo pergunta mensagem texte betreff asunto sujet
вопрос сообщение текст тема
"""
# Columns that belong to a question beside its main one.
COMPANIONS = """
question instruction input context document passage subject title premise hypothesis
質問 文書 件名 タイトル 질문 문서 제목 지문 问题 标题 betreff asunto sujet тема
"""
# Columns of the answers to choose from.
OPTIONS = "option options choice choices ending 選択肢 선택지 选项"
GROUPS = """
conversation dialog dialogue thread session customer client user author sender patient account member speaker
requester reviewer
会話 スレッド 顧客 お客様 ユーザー ユーザ 利用者 会員 投稿者 著者 患者
대화 스레드 고객 사용자 회원 작성자 환자
会话 对话 客户 用户 作者 患者
kunde kundennummer kundennr kundenid nutzer benutzer konversation cliente usuario usuaria conversación conversazione
utilisateur auteur
клиент пользователь автор диалог
"""
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")  # customerId
WORD = re.compile(r"[^\W\d_]+")
FIRST_HANGUL = "\u1100"  # Hangul, kana and Chinese characters come after the alphabets


def rank(name: str, known: str) -> int | None:
    """Return the place of the first known word that a column's name has; None if it has none.

    Japanese, Korean and Chinese words count inside a name too, because nothing separates them.
    """
    whole = unicodedata.normalize("NFKC", HUMP.sub(" ", name)).casefold()
    words = set(WORD.findall(whole))
    for place, word in enumerate(known.split()):
        if word in words or (word[0] >= FIRST_HANGUL and word in whole):
            return place
    return None
