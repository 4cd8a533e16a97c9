# embeddings: length 1, one line a text, in the order of the texts
needs model all-minilm-l6-v2/model.safetensors
$ printf '"a text"\n"another, which is longer"\n' > in.jsonl; mote embed -m $MODELS/all-minilm-l6-v2 --jsonl in.jsonl > out.jsonl; python3 -c 'import json; r = [json.loads(l) for l in open("out.jsonl")]; print(len(r), len(r[0]), [round(sum(x * x for x in v), 4) for v in r])'
> 2 384 [1.0, 1.0]
$ mote embed -m $MODELS/all-minilm-l6-v2 'another, which is longer' 'a text' > two; python3 -c 'import json; a = [json.loads(l) for l in open("out.jsonl")]; b = [json.loads(l) for l in open("two")]; print(max(abs(x - y) for v, w in zip(a, b[::-1]) for x, y in zip(v, w)) < 1e-5)'
> True
$ echo 5 | mote embed -m $MODELS/all-minilm-l6-v2 --jsonl -
! -:1: not a JSON string
? 1
$ mote run -m $MODELS/all-minilm-l6-v2 hello
! makes embeddings, not text
? 1
