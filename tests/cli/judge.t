# perplexity, embeddings, quantize (a base file holds 16-bit log-probabilities down to e^-16: a model is
# within some 1e-6 of itself)
needs model smollm2-135m-instruct.q4_1.gguf
$ head -c 3000 $SHARED/oracle/text/wikitext2-test.txt > text; mote perplexity -m $MODELS/smollm2-135m-instruct.q4_1.gguf -f text -c 128 --chunks 2 --kl-divergence-base base | tail -1
>~ PPL = \d+\.\d{4} \+/- \d+\.\d{5}
$ mote perplexity -m $MODELS/smollm2-135m-instruct.q4_1.gguf -f text -c 128 --chunks 2 --kl-divergence-base base --kl-divergence --json | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d["kld_mean"] < 1e-5, d["chunks"], d["scored"])'
>~ True 2 12[68]
$ echo short > short; mote perplexity -m $MODELS/smollm2-135m-instruct.q4_1.gguf -f short
! .
? 2
# formats
$ mote quantize --dry-run --allow-requantize $MODELS/smollm2-135m-instruct.q4_1.gguf Q2_K | tail -2 | head -1
>~ Q2_K: .* -> .* bits per weight really
$ mote quantize --types | grep -c -e '^Q4_K_M ' -e '^Q8_0 ' -e '^F16 '
> 3
$ mote quantize $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf Q9_9
! Q9_9
? 2
$ mote quantize $SHARED/oracle/arch/llama-dense.gguf out.gguf F16 --json | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d["type"], d["fallbacks"])'
> F16 0
$ mote show out.gguf | grep -c '^f16 '
> 1
$ mote quantize in.gguf
! expected IN OUT TYPE
? 2
