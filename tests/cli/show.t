# what is in a file; a file that is none
needs shared
needs model smollm2-135m-instruct.q4_1.gguf
$ mote show $MODELS/smollm2-135m-instruct.q4_1.gguf | sed -n 3,5p
> architecture     llama
> name             Smollm2 135M 8k Lc100K Mix1 Ep2
> licence          apache-2.0
$ mote show -m $MODELS/smollm2-135m-instruct.q4_1.gguf --json | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d["weights"], len(d["tensors"]), d["metadata"]["llama.context_length"])'
> 134515008 272 8192
$ mote show $MODELS/smollm2-135m-instruct.q4_1.gguf --tensors --metadata | grep -c -e '^q4_1 .*576' -e general.architecture
> 211
$ mote show $MODELS/smollm2-135m-instruct.q4_1.gguf --template | head -c 6
> {% for
$ printf 'GGUF but not much' > bad.gguf; mote show bad.gguf
! mote: .
? 1
$ mote show missing.gguf
! missing.gguf: there is no such file
? 4
$ mote show smollm3
! there is no model 'smollm3'
? 4
$ mote show $SHARED/oracle/arch/llama-dense.gguf > /dev/full
! writing to standard output failed
? 4
# a file copied into the cache folder is known by name
$ mote pull $SHARED/oracle/arch/llama-dense.gguf
>~ .*/models/llama-dense.gguf
$ mote show llama-dense | head -3 | tail -1
> architecture     llama
$ mote list --json | python3 -c 'import json,sys; print([r["name"] for r in json.load(sys.stdin) if r["here"] and r["name"] != "mote-nano"])'
> ['llama-dense']
$ mote pull bad.gguf
! not a model; it was removed
? 1
$ ls models
> llama-dense.gguf
# and is removed by name
$ mote rm ../bad.gguf
! there is no model
? 4
$ echo n | mote rm llama-dense
! nothing is removed
$ mote rm -y llama-dense
>~ .*/models/llama-dense.gguf is removed
$ ls models
