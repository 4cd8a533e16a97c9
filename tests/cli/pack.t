# pack, export: the same weights in fewer bytes, and in formats that others read
needs model smollm2-135m-instruct.q4_1.gguf
$ mote quantize -q --allow-requantize --tensor-type 'blk[.][0-3][.]ffn=q3_96' --tensor-type 'blk[.]4[.]=q2_96' --tensor-type 'blk[.]5[.]ffn=tq1_192' --tensor-type 'blk[.]6[.]=q4_96' $MODELS/smollm2-135m-instruct.q4_1.gguf mixed.gguf Q4_1 > said; mote pack mixed.gguf packed.gguf --json | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d["changed"], d["bytes_to"] < 0.95 * d["bytes_from"], d["file_to"] < d["file_from"])'
> 211 True True
$ mote show --json packed.gguf | python3 -c 'import json,sys; d = json.load(sys.stdin); print(sorted(f["type"] for f in d["types"]))'
> ['f32', 'q2_96', 'q3_96', 'q4_1', 'q4_96', 'q8_0', 'tq1_192']
$ mote export packed.gguf standard.gguf | sed 's/->.*//'
>~ standard.gguf: 29 of 272 tensors changed, .* MB 
$ for m in mixed packed standard; do mote logits -m $m.gguf -p 'The sky is' -o - | sha256sum; done | sort -u | wc -l
> 1
# what was decoded is given back once it is packed for the kernels: nothing reads it after that
$ for m in mixed packed; do mote run -m $m.gguf --raw -p 'The sky is' -n 12 --temp 0 --prompt-cache st.$m > $m.said; mote run -m $m.gguf --raw -p 'The sky is' -n 12 --temp 0 --prompt-cache st.$m --json; done | python3 -c 'import json,sys; d = [json.loads(l) for l in sys.stdin]; print([x["cached_tokens"] > 1 and x["text"] == open("mixed.said").read() == open("packed.said").read() for x in d])'
> [True, True]
# llama.cpp reads what is exported
$ head -c 20000 $SHARED/oracle/text/wikitext2-test.txt > text; $SHARED/peers/run llamacpp llama-perplexity -m standard.gguf -f text -c 128 --chunks 4 -t 2 2>&1 | grep -o 'PPL = [0-9.]*' > peer; mote perplexity -m packed.gguf -f text -c 128 --chunks 4 -t 2 | grep -o 'PPL = [0-9.]*' > ours; cat peer ours | python3 -c 'import sys; a, b = [float(l.split()[2]) for l in sys.stdin]; print(abs(a / b - 1) < 0.03)'
> True
$ head -c 30000000 packed.gguf > cut.gguf; mote show cut.gguf
! ends beyond the file
? 1
$ python3 -c 'b = bytearray(open("packed.gguf", "rb").read()); b[-100000] ^= 1; open("bent.gguf", "wb").write(b)'; mote run -m bent.gguf -p x -n 1
! damaged
? 1
$ mote pack $SHARED/oracle/arch/llama-dense.gguf never.gguf
! no tensor gets smaller
? 1
$ mote pack mixed.gguf
! which model, and into which file
? 2
$ ls never.gguf* 2>/dev/null | wc -l
> 0
