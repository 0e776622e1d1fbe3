package facts

import (
	"bytes"
	"encoding/base64"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// inBasic is the user name of basic authorization (RFC 7617).
type inBasic struct{}

// authorization is the field of credentials.
var authorization = fieldName{text: "Authorization", id: wire.Authorization}

func (inBasic) find(x *exchange.Exchange) ([]byte, *exchange.Refusal) {
	v, refusal := authorization.value(x)
	if refusal != nil || len(v) < len("Basic ") || v[5] != ' ' || !wire.EqualFold(v[:5], "basic") {
		return nil, refusal
	}
	name, ok := basicUser(bytes.TrimLeft(v[6:], " "), bufferOf(x, usedOf(x))[usedOf(x):])
	if !ok {
		return nil, refuseLong
	}
	return name, nil
}

// basicUser decodes the part of the credentials before the first colon into buf. nil: there is none; ok is false when it does not
// fit. Only as much is decoded as is needed, so that the password is never in memory twice.
func basicUser(text, buf []byte) (name []byte, ok bool) {
	n := 0
	for len(text) > 0 {
		var four [4]byte
		var three [3]byte
		size := copy(four[:], text)
		text = text[size:]
		for size < 4 { // without the padding that RFC 7617 asks for
			four[size] = '='
			size++
		}
		got, err := base64.StdEncoding.Decode(three[:], four[:])
		if err != nil || got < 3 && len(text) > 0 {
			return nil, true
		}
		for _, c := range three[:got] {
			switch {
			case c == ':':
				if n == 0 {
					return nil, true
				}
				return buf[:n:n], true
			case n == len(buf):
				return nil, false
			}
			buf[n] = c
			n++
		}
	}
	return nil, true
}
