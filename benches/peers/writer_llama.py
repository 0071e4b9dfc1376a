"""llama.cpp as the local writer: rows a second on rendered chats.

    python writer_llama.py MODEL CHATS THREADS chat
    python writer_llama.py MODEL CHATS THREADS ROWS

`chat` asks as its users do, `create_chat_completion` row after row; it keeps the state of the prefix by
itself. A number writes so many rows at once through the functions of llama.h, behind one prefix, as
examples/parallel of llama.cpp does. Needs llama-cpp-python. Prints one line of JSON like `benches/writer.rs`.
"""

import ctypes
import json
import sys
import time

import llama_cpp as api
import numpy

MOST_TOKENS = 64


def chat(model, chats, threads):
    llama = api.Llama(model, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
    said = []
    started = time.time()
    for chat in chats:
        messages = chat["prefix"] + [{"role": "user", "content": chat["user"]}]
        said.append(llama.create_chat_completion(messages, max_tokens=MOST_TOKENS, temperature=0.0))
    seconds = time.time() - started
    texts = [one["choices"][0]["message"]["content"] for one in said]
    return texts, sum(one["usage"]["completion_tokens"] for one in said), seconds


class Batched:
    def __init__(self, model, threads, rows):
        parameters = api.llama_context_default_params()
        parameters.n_ctx = 1024 + rows * 512
        parameters.n_batch = 2048
        parameters.n_seq_max = rows + 1
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        self.rows = rows
        self.model = api.llama_model_load_from_file(model.encode(), api.llama_model_default_params())
        self.context = api.llama_init_from_model(self.model, parameters)
        self.words = api.llama_model_get_vocab(self.model)
        self.memory = api.llama_get_memory(self.context)
        self.batch = api.llama_batch_init(4096, 0, rows + 1)

    def tokens(self, role, text, end="<|im_end|>\n"):
        text = f"<|im_start|>{role}\n{text}{end}".encode()
        found = (api.llama_token * (len(text) + 16))()
        return found[: api.llama_tokenize(self.words, text, len(text), found, len(found), False, True)]

    def text(self, tokens):
        pieces = b""
        for token in tokens:
            piece = ctypes.create_string_buffer(256)
            length = api.llama_token_to_piece(self.words, token, piece, 256, 0, True)
            pieces += piece.raw[:length]
        return pieces.decode(errors="replace")

    def read(self, items):
        """Items are (token, position, sequence, whether its scores are wanted)."""
        self.batch.n_tokens = len(items)
        for i, (token, position, sequence, wanted) in enumerate(items):
            self.batch.token[i], self.batch.pos[i], self.batch.logits[i] = token, position, wanted
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
        assert api.llama_decode(self.context, self.batch) == 0

    def likeliest(self, i):
        scores = api.llama_get_logits_ith(self.context, i)
        size = api.llama_vocab_n_tokens(self.words)
        return int(numpy.argmax(numpy.ctypeslib.as_array(scores, shape=(size,))))

    def write(self, chats):
        prefix = sum((self.tokens(m["role"], m["content"]) for m in chats[0]["prefix"]), [])
        turns = [self.tokens("user", c["user"]) + self.tokens("assistant", "", "") for c in chats]
        started = time.time()
        for at in range(0, len(prefix), 512):
            self.read([(t, at + i, 0, False) for i, t in enumerate(prefix[at : at + 512])])
        waiting, free, live, said = list(enumerate(turns))[::-1], list(range(1, self.rows + 1)), {}, {}

        def hear(sequence, row, position, words, token):
            if api.llama_vocab_is_eog(self.words, token) or len(words) == MOST_TOKENS:
                said[row] = words
                api.llama_memory_seq_rm(self.memory, sequence, -1, -1)
                live.pop(sequence, None)
                free.append(sequence)
            else:
                live[sequence] = (row, position, words + [token])

        while waiting or live:
            if waiting and len(free) >= min(8, self.rows):
                items, last = [], []
                while waiting and free and len(items) < 1024:
                    (row, turn), sequence = waiting.pop(), free.pop()
                    api.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
                    positions = range(len(prefix), len(prefix) + len(turn))
                    items += [(t, p, sequence, p == positions[-1]) for t, p in zip(turn, positions)]
                    last.append((sequence, row, positions[-1] + 1, len(items) - 1))
                self.read(items)
                for sequence, row, position, i in last:
                    hear(sequence, row, position, [], self.likeliest(i))
            else:
                sequences = list(live)
                self.read([(live[s][2][-1], live[s][1], s, True) for s in sequences])
                tokens = [self.likeliest(i) for i in range(len(sequences))]
                for sequence, token in zip(sequences, tokens):
                    row, position, words = live[sequence]
                    hear(sequence, row, position + 1, words, token)
        seconds = time.time() - started
        texts = [self.text(said[row]) for row in range(len(chats))]
        return texts, sum(map(len, said.values())), seconds


def main():
    model, chats, threads, how = sys.argv[1:5]
    chats = [json.loads(line) for line in open(chats)]
    if how == "chat":
        name, result = "llama.cpp", chat(model, chats, int(threads))
    else:
        name, result = f"llama.cpp, {how} at once", Batched(model, int(threads), int(how)).write(chats)
    texts, tokens, seconds = result
    print(json.dumps({"client": name, "rows": len(texts), "seconds": seconds, "tokens": tokens, "texts": texts}))


main()
