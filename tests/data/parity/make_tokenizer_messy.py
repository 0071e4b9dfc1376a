"""Writes tokenizer_messy.json: texts and the ids that open_clip_torch 3.3.0 gives them (ftfy 6.3.1).
usage: make_tokenizer_messy.py OPEN_CLIP_FOLDER TITLES.txt OUT.json"""
import json
import random
import sys
import types
for name in ("torch",):
    sys.modules[name] = types.SimpleNamespace(Tensor=object, LongTensor=object)
source = open(sys.argv[1] + "/tokenizer.py", encoding="utf-8").read()
module = {"__name__": "open_clip_tokenizer", "__file__": sys.argv[1] + "/tokenizer.py"}
exec(compile(source, "tokenizer.py", "exec"), module)
import ftfy
tokenizer = module["SimpleTokenizer"]()
random.seed(7)
titles = [t for t in open(sys.argv[2], encoding="utf-8").read().split("\0") if t]
texts = random.sample(titles, 220)
pieces = ["don’t", "“quoted”", "ﬁne ﬂow", "ＦＵＬＬ　width", "caf\u00e9", "cafe\u0301", "&eacute;", "&amp;lt;b&gt;", "&NotEqualTilde;",
          "naïve", "Straße", "ΟΔΟΣ", "İstanbul", "ſt's", "'ſ", "x'S", "we'LL", "2024", "½", "Ⅷ", "٣٤", "日本", "한국", "หมา", "हिन्दी", "עברית",
          "🍎🍏", "👩‍👧", "\u0000a\u001f", "a\u200bb", "a\u00a0b", "\ufeffx", "#1!?", "---", "…", "http://a.b/c", "\x1b[31mred", "<b>", "<end_of_text>",
          "\u2028", "\u1680", "\u180e", "ǆ", "ŉ", "①", "²", "a_b", "œuvre", "ß", "\U0001F3FD", "\ufffc", "&#8220;hi&#8221;", "zyxwvutsrqp", "antidisestablishmentarianism"]
for _ in range(160):
    texts.append(" ".join(random.choices(pieces, k=random.randint(1, 5))) if random.random() < .7 else "".join(random.choices(pieces, k=3)))
cases = []
import html, re
for t in texts:
    ids = [tokenizer.sot_token_id] + tokenizer.encode(t) + [tokenizer.eot_token_id]
    if len(ids) > 77: ids = ids[:76] + [tokenizer.eot_token_id]
    # Rows where ftfy's guess of the encoding changed something are marked, not left out.
    guessed = ftfy.fix_text(t) != ftfy.fix_text(t, fix_encoding=False)
    cases.append({"text": t, "ids": ids + [0] * (77 - len(ids)), "needs_ftfy": guessed})
json.dump({"cases": cases}, open(sys.argv[3], "w"), ensure_ascii=True, separators=(",", ":"))
print(len(cases), sum(c["needs_ftfy"] for c in cases))
