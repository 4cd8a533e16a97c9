# one stage at a time: tokens, template, logits
needs model smollm2-135m-instruct.q4_1.gguf
$ mote tokenize -m $MODELS/smollm2-135m-instruct.q4_1.gguf --ids 'Hello world <|im_end|>'
> [19556, 905, 2067, 108, 306, 79, 486, 108, 46]
$ mote tokenize -m $MODELS/smollm2-135m-instruct.q4_1.gguf --special --ids 'Hello world <|im_end|>'
> [19556, 905, 216, 2]
$ mote tokenize -m $MODELS/smollm2-135m-instruct.q4_1.gguf 'Hello world'
>   19556  "Hello"
>     905  " world"
$ printf '"Hello world"\n""\n"a\\u0000b"\n' > in.jsonl; mote tokenize -m $MODELS/smollm2-135m-instruct.q4_1.gguf --jsonl in.jsonl > ids.jsonl; head -2 ids.jsonl
> [19556, 905]
> []
$ mote detokenize -m $MODELS/smollm2-135m-instruct.q4_1.gguf --jsonl ids.jsonl
> "Hello world"
> ""
> "a\u0000b"
$ mote detokenize -m $MODELS/smollm2-135m-instruct.q4_1.gguf 19556 905
> Hello world
$ echo '{"not": "a string"}' | mote tokenize -m $MODELS/smollm2-135m-instruct.q4_1.gguf --jsonl -
! -:1: not a JSON string
? 1
$ mote detokenize -m $MODELS/smollm2-135m-instruct.q4_1.gguf 1,99999999
! token 1 has id 99999999, outside the vocabulary of 49152
? 1
$ mote detokenize -m $MODELS/smollm2-135m-instruct.q4_1.gguf 1,x
! '1,x' is not a list of token ids
? 2
# templates
$ printf '{{ bos_token }}{%% for m in messages %%}{{ m.role }}={{ m.content }};{%% endfor %%}{{ strftime_now("%%Y") }}' > t.jinja
$ echo '{"messages": [{"role": "user", "content": "a<b>"}]}' > c.json
$ mote template -f t.jinja -c c.json --bos-token '<s>' --now '2026-01-02 03:04:05'
> <s>user=a<b>;2026
$ mote template -f t.jinja -c c.json --bos-token '<s>' --now '2026-01-02 03:04:05' --json
> {"text":"<s>user=a<b>;2026","spans":[{"text":"<s>user=","from_conversation":false},{"text":"a<b>","from_conversation":true},{"text":";2026","from_conversation":false}]}
$ printf '{{ raise_exception("no tools here") }}' > bad.jinja; mote template -f bad.jinja -c c.json
! no tools here
? 1
$ printf '{%% for %%}' > bad.jinja; mote template -f bad.jinja -c c.json
! .
? 1
$ echo '{' > bad.json; mote template -f t.jinja -c bad.json
! .
? 1
# logits: a file of the right size, the same from stdout; ids out of range
$ mote logits -m $MODELS/smollm2-135m-instruct.q4_1.gguf --ids 1,2,3 -o out.f32; stat -c %s out.f32
> 589824
$ mote logits -m $MODELS/smollm2-135m-instruct.q4_1.gguf --ids '[1, 2, 3]' -o - | cmp - out.f32
$ mote logits -m $MODELS/smollm2-135m-instruct.q4_1.gguf --ids 1,2,3 -t 1 -ub 1 -o - | cmp - out.f32
$ mote logits -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 'The capital of France is' --top | tail -1 | cut -c 1-14
>~ 4	314	7042 " P
$ mote logits -m $MODELS/smollm2-135m-instruct.q4_1.gguf --ids 1,99999999 -o x
! 99999999
? 1
$ mote logits -m $MODELS/smollm2-135m-instruct.q4_1.gguf --ids 1
! nothing to do
? 2
$ mote logits -m $MODELS/smollm2-135m-instruct.q4_1.gguf --ids 1 -o /nonexistent/x
! nonexistent
? 4
