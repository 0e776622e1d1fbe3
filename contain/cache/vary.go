package cache

import (
	"hash/maphash"

	"github.com/even-keel/evenkeel/wire"
)

// maxVary bounds the fields that one answer may vary by: who names more gains nothing from a cache.
const maxVary = 16

// varied is one request field that an answer varies by, and the value it was asked with; several lines are joined. "" is the same as none.
type varied struct{ name, value string }

// readVary adds the names of a Vary field to those known. ok: false for *, and for fields whose value is not the client's: evenkeel writes
// them anew for each endpoint, so that nothing is known of what the answer really varies by.
func readVary(names []string, v []byte) (_ []string, ok bool) {
	for len(v) > 0 {
		var one []byte
		one, v = member(v)
		if len(one) == 0 {
			continue
		}
		if one[0] == '*' || len(names) == maxVary || ours(one) {
			return names, false
		}
		names = append(names, lower(one))
	}
	return names, true
}

// ours reports whether a request field is written by evenkeel, and is no part of the key of what is stored.
func ours(name []byte) bool {
	const own = "evenkeel-"
	if len(name) > len(own) && wire.EqualFold(name[:len(own)], own) {
		return !wire.EqualFold(name, "evenkeel-degrade") // which is
	}
	return wire.EqualFold(name, "x-forwarded-for") || wire.EqualFold(name, "x-request-id")
}

func lower(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out[i] = c
	}
	return string(out)
}

// vary notes the values that fields give to names.
func vary(names []string, fields []wire.Field) []varied {
	if len(names) == 0 {
		return nil
	}
	out := make([]varied, 0, len(names))
	for _, name := range names {
		var value []byte
		n := 0
		for i := range fields {
			if wire.EqualFold(fields[i].Name, name) {
				if n > 0 {
					value = append(value, ", "...)
				}
				value = append(value, fields[i].Value...)
				n++
			}
		}
		out = append(out, varied{name, string(value)})
	}
	return out
}

// fits reports whether fields give the value that was noted (RFC 9111 §4.1).
func (v *varied) fits(fields []wire.Field) bool {
	rest, n := v.value, 0
	for i := range fields {
		f := &fields[i]
		if len(f.Name) != len(v.name) || !wire.EqualFold(f.Name, v.name) {
			continue
		}
		if n > 0 {
			if len(rest) < 2 || rest[:2] != ", " {
				return false
			}
			rest = rest[2:]
		}
		if len(rest) < len(f.Value) || rest[:len(f.Value)] != string(f.Value) {
			return false
		}
		rest = rest[len(f.Value):]
		n++
	}
	return rest == ""
}

// mix adds to a hash what fields give to the names of list.
func mix(seed maphash.Seed, h uint64, list []varied, fields []wire.Field) uint64 {
	for i := range list {
		for j := range fields {
			if wire.EqualFold(fields[j].Name, list[i].name) {
				h = h*31 ^ maphash.Bytes(seed, fields[j].Value) ^ uint64(i+1)
			}
		}
	}
	return h
}
