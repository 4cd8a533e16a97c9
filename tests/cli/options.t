# the parser, help and version
$ mote
! Usage: mote COMMAND
? 2
$ mote --version
>~ mote \d+\.\d+\.\d+
>~ .+ on .+
$ mote version --json
>~ \{"version":".*","isa":".*","cpu":".*"\}
$ mote hlep
! did you mean 'help'
? 2
$ mote list --jsno
! unknown option '--jsno'; did you mean --json\?
? 2
$ mote list --json=1
! --json takes no value
? 2
$ mote pull --sha256
! --sha256 needs a value: --sha256 HEX
? 2
$ mote list extra
! 'extra' is one argument too many
? 2
$ mote pull x --sha256 12
! 64 hexadecimal digits
? 2
$ mote help nothing
! there is no command 'nothing'
? 2
$ mote show --help
>~ Usage: mote show .*
>...
>~ Examples
>...
$ mote help --names | grep -cx -e run -e show -e list -e pull -e help
>~ [45]
$ mote help > /dev/full
! writing to standard output failed
? 4
$ mote help | head -1 | wc -l
> 1
# no command has two options of one name
$ mote help --markdown | awk '/^#/ {split("", seen)} match($0, /^\| `(-[a-z], )?--[a-z0-9-]+/) {n = substr($0, RSTART, RLENGTH); sub(/.*--/, "", n); if (seen[n]++) print "twice:", n}'; echo done
> done
