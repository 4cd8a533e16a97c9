# what `mote bench` prints; llama-bench's and llama-batched-bench's readers must be able to read it
needs model smollm2-135m-instruct.q4_1.gguf
$ mote bench -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 32 -n 4 -t 2 -r 1 -d 8 -o json | python3 -c 'import json,sys; print([(x["n_prompt"], x["n_gen"], x["n_depth"], x["avg_ts"] > 0, len(x["samples_ns"])) for x in json.load(sys.stdin)])'
> [(32, 0, 8, True, 1), (0, 4, 8, True, 1)]
$ mote bench -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 16 -n 0 -r 1 | tail -1
>~ \| smollm2-135m-instruct.q4_1.gguf \| \d+ \| pp16 \| .* \|
$ mote bench -p 1,x
! separated by commas
? 2
# several sequences together
$ mote bench -m $MODELS/smollm2-135m-instruct.q4_1.gguf -c 100 -npp 16,20 -ntg 4 -npl 1,2,8 -t 2 | sed 's/[0-9]*\.[0-9]*/x/g; s/ \+/ /g'
! 8 sequences of 20 tokens do not fit -c 100
> | PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | T s | S t/s |
> |-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
> | 16 | 4 | 1 | 20 | x | x | x | x | x | x |
> | 16 | 4 | 2 | 40 | x | x | x | x | x | x |
> | 20 | 4 | 1 | 24 | x | x | x | x | x | x |
> | 20 | 4 | 2 | 48 | x | x | x | x | x | x |
$ mote bench -m $MODELS/smollm2-135m-instruct.q4_1.gguf -npp 16 -ntg 4 -npl 2 -pps -t 2 -o jsonl | python3 -c 'import json,sys; d = json.load(sys.stdin); print(" ".join(d)); print(d["pl"], d["n_kv"], d["is_pp_shared"], abs(d["speed_pp"] * d["t_pp"] - 16) < 1e-6, abs(d["speed_tg"] * d["t_tg"] - 8) < 1e-6)'
> n_kv_max n_batch n_ubatch flash_attn is_pp_shared n_gpu_layers n_threads n_threads_batch pp tg pl n_kv t_pp speed_pp t_tg speed_tg t speed
> 2 40 1 True True
$ mote bench -npl 0
! from 1 to 1024
? 2
$ mote bench -npl 2 -p 5
! not with -p
? 2
$ mote bench -pps
! needs -npl
? 2
# where the time goes
$ mote bench -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 32 -n 4 -r 1 -t 2 --profile | grep -c -e '^prefill: 1 passes, 32 tokens,' -e '^decode: 4 passes, 4 tokens,' -e '^| linear | ffn_down | q4_1 | 30 |' -e '^| attention |  |  | [36]0 |' -e '^| barriers, waiting |'
> 8
$ mote bench -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 0 -n 4 -r 2 -t 2 --profile-svg p.svg -o json | python3 -c 'import json,sys; import xml.dom.minidom as x; d = json.load(sys.stdin)[-1]["profile"]["decode"]; s = sum(r["ns"] for r in d["rows"]); print(d["passes"], 0.5 * d["ns"] < s <= d["ns"], sorted(d["rows"][0]), len(x.parse("p.svg").getElementsByTagName("rect")) > 20)'
> 8 True ['bytes', 'calls', 'format', 'ns', 'op', 'ops', 'tensor', 'unit'] True
$ mote bench -npl 2 --profile
! goes with -p and -n
? 2
# the machine's limits
$ mote bench --machine -t 2 --json | python3 -c 'import json,sys; d = json.load(sys.stdin); print(sorted(d)); print({m["access"] for m in d["memory"]} == {"read", "read 4 streams", "copy", "write"}, {m["threads"] for m in d["memory"]}, min(m["gb_s"] for m in d["memory"]) > 0.1, [b["threads"] for b in d["barriers"]], {p["unit"] for p in d["peaks"]} >= {"int8", "f32"}, min(p["gop_s"] for p in d["peaks"]) > 0.05, len(d["latency"]) % 2)'
> ['barriers', 'cpu', 'isa', 'latency', 'memory', 'peaks', 'seconds', 'threads']
> True {1, 2} True [1, 2] True True 0
# shares of what the machine allows
$ mote bench -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 32 -n 4 -r 1 -t 2 --limits --profile -o json | python3 -c 'import json,sys; d = json.load(sys.stdin); print([(r["limit_by"] in ("reading", "computing"), 0 < r["share"] < 3, abs(r["share"] * r["limit_ts"] / r["avg_ts"] - 1) < 1e-6) for r in d]); print(abs(d[1]["token_bytes"] / 95e6 - 1) < 0.1, abs(d[0]["token_ops"] / 214e6 - 1) < 0.1); print([0 < x["share"] < 5 for x in d[1]["profile"]["decode"]["rows"] if x["tensor"] == "ffn_down"])'
> [(True, True, True), (True, True, True)]
> True True
> [True]
$ mote bench -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 0 -n 4 -r 1 -t 2 --limits
> | model | threads | test | t/s | limit | share |
> | --- | ---: | ---: | ---: | ---: | ---: |
>~ \| smollm2-135m-instruct.q4_1.gguf \| 2 \| tg4 \| .* \| \d+ \| [\d.]+ % \|
$ mote bench -m $MODELS/smollm2-135m-instruct.q4_1.gguf -npp 8 -ntg 4 -npl 2 -t 2 --limits | head -1
> |    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s | limit PP | limit TG |
# the harness: its rows, without peers
$ python3 $MOTE_SOURCE_DIR/bench/measure.py --dry --no-peers --mote $(command -v mote) --models $MODELS/smollm2-135m-instruct.q4_1.gguf --rounds 1 --depths 0,16 -p 16 -n 4 --npp 8 --npl 1,3 2>&1 | sed 's/mote [0-9.]*/mote x/; s/limit [0-9.]*/limit x/; s/share [0-9.]*/share x/'
> model smollm2-135m-instruct.q4_1  depth 0  test pp16  mote x  limit x  share x
> model smollm2-135m-instruct.q4_1  depth 0  test tg4  mote x  limit x  share x
> model smollm2-135m-instruct.q4_1  depth 16  test pp16  mote x  limit x  share x
> model smollm2-135m-instruct.q4_1  depth 16  test tg4  mote x  limit x  share x
> model smollm2-135m-instruct.q4_1  depth 8  test npl1  mote x  limit x  share x
> model smollm2-135m-instruct.q4_1  depth 8  test npl3  mote x  limit x  share x
> model smollm2-135m-instruct.q4_1  depth 0  test start  mote x
> model smollm2-135m-instruct.q4_1  depth 0  test memory  mote x
