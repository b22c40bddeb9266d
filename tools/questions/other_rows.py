"""Rows of published training sets: HotpotQA, MuSiQue, QuAC and PubMedQA. Each is a row {"documents", "question",
"answer", "gold", "kind"}."""

import json
import lzma
import re
from pathlib import Path


def titled(title, text):
    """A paragraph under its title, as `make_eval_sets.py` shows HotpotQA and Natural Questions."""
    return f"{title}\n{text.strip()}"


def hotpot_row(row, unseen):
    """The record layout of hotpotqa_train300, or HippoRAG's; None where a gold paragraph must stay unseen."""
    context, facts = row["context"], row["supporting_facts"]
    if isinstance(context, dict):
        context = list(zip(context["title"], context["sentences"], strict=True))
        facts = list(zip(facts["title"], facts["sent_id"], strict=True))
    golden = {title for title, _ in facts}
    if any(title in unseen for title in golden):
        return None
    context = [(title, sentences) for title, sentences in context if title in golden or title not in unseen]
    return {
        "documents": [titled(title, "".join(sentences)) for title, sentences in context],
        "question": row["question"].rstrip(" ?") + "?",
        "answer": row["answer"],
        "gold": [i for i, (title, _) in enumerate(context) if title in golden],
        "kind": "hotpotqa",
    }


def read_hotpot(path, unseen):
    data = Path(path).read_bytes()
    lines = lzma.decompress(data).decode().splitlines()
    return [made for line in lines if (made := hotpot_row(json.loads(line), unseen))]


def read_hipporag(clone, unseen):
    rows = []
    for path, text in clone.texts(["data/hotpotqa_train.json", "data/musique_train.json"]):
        for row in json.loads(text):
            if "musique" in path:
                paragraphs = [p for p in row["paragraphs"] if p["is_supporting"] or p["title"] not in unseen]
                if any(p["is_supporting"] and p["title"] in unseen for p in paragraphs):
                    continue
                made = {
                    "documents": [titled(p["title"], p["paragraph_text"]) for p in paragraphs],
                    "question": row["question"].strip(),
                    "answer": row["answer"],
                    "gold": [i for i, p in enumerate(paragraphs) if p["is_supporting"]],
                    "kind": "musique",
                }
            else:
                made = hotpot_row(row, unseen)
            if made:
                rows.append(made)
    return rows


def read_quac(text, unseen):
    """QuAC in llm-foundry's form: title, background and section, earlier questions, and the question at the end. Rows
    without an answer are left out, and so are answers of more than 25 words."""
    rows = []
    for line in text.splitlines():
        row = json.loads(line)
        match = re.match(
            r"Title: (.*?)\n\nBackground: (.*?)\n\nSection: (.*?)\nContext: (.*?)(?:CANNOTANSWER)?\n\n(Question: .*)\Z",
            row["context"],
            re.DOTALL,
        )
        if not match or row["answer"] == "CANNOTANSWER" or len(row["answer"].split()) > 25 or match[1] in unseen:
            continue
        turns = re.findall(r"Question: (.*?)(?:\nAnswer: (.*?))?(?=\n\nQuestion|\Z)", match[5], re.DOTALL)
        question = turns[-1][0].strip().removesuffix("\nAnswer:").strip()
        if len(question.split()) < 5:
            continue
        question = question[0].upper() + question[1:]
        if re.search(r"\b(?:he|she|it|they|his|her|this|that|their|him|them)\b", question, re.IGNORECASE):
            question = f"About {match[1]}, {match[3]}: {question}"
        rows.append({"documents": [titled(match[1], match[2]), titled(f"{match[1]}: {match[3]}", match[4])],
                     "question": question, "answer": row["answer"].strip(), "gold": [1], "kind": "quac"})  # fmt: skip
    return rows


def read_pubmed(text):
    rows = []
    for row in json.loads(text).values():
        rows.append({"documents": row["CONTEXTS"], "question": row["QUESTION"], "answer": row["final_decision"],
                     "gold": list(range(len(row["CONTEXTS"]))), "kind": "pubmedqa"})  # fmt: skip
    return rows
