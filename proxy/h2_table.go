package proxy

import "github.com/even-keel/evenkeel/wire"

// Pseudo-header fields, as IDs above those of package wire; they never leave the HTTP/2 engine.
const (
	idAuthority wire.ID = 0xf0 + iota
	idMethod
	idPath
	idScheme
	idStatus
	idProtocol
	idPseudo // any other
)

// fieldID is wire.FieldID for pseudo-header fields too. name is in lower case.
func fieldID(name []byte) wire.ID {
	if len(name) == 0 || name[0] != ':' {
		return wire.FieldID(name)
	}
	switch string(name) {
	case ":authority":
		return idAuthority
	case ":method":
		return idMethod
	case ":path":
		return idPath
	case ":scheme":
		return idScheme
	case ":status":
		return idStatus
	case ":protocol":
		return idProtocol
	}
	return idPseudo
}

// hpackStatic is the static table of RFC 7541 appendix A; index 0 is unused.
var hpackStatic = buildStatic("", "", ":authority", "", ":method", "GET", ":method", "POST", ":path", "/", ":path", "/index.html", ":scheme", "http",
	":scheme", "https", ":status", "200", ":status", "204", ":status", "206", ":status", "304", ":status", "400", ":status", "404", ":status", "500",
	"accept-charset", "", "accept-encoding", "gzip, deflate", "accept-language", "", "accept-ranges", "", "accept", "",
	"access-control-allow-origin", "", "age", "", "allow", "", "authorization", "", "cache-control", "", "content-disposition", "",
	"content-encoding", "", "content-language", "", "content-length", "", "content-location", "", "content-range", "", "content-type", "",
	"cookie", "", "date", "", "etag", "", "expect", "", "expires", "", "from", "", "host", "", "if-match", "", "if-modified-since", "",
	"if-none-match", "", "if-range", "", "if-unmodified-since", "", "last-modified", "", "link", "", "location", "", "max-forwards", "",
	"proxy-authenticate", "", "proxy-authorization", "", "range", "", "referer", "", "refresh", "", "retry-after", "", "server", "",
	"set-cookie", "", "strict-transport-security", "", "transfer-encoding", "", "user-agent", "", "vary", "", "via", "", "www-authenticate", "")

const hpackStaticLen = 61

// hpackStaticID is the static index of a known field's name, 0 for those that have none.
var hpackStaticID = buildStaticIDs()

func buildStatic(pairs ...string) (t [hpackStaticLen + 1]wire.Field) {
	for i := range t {
		name := []byte(pairs[2*i])
		t[i] = wire.Field{Name: name, Value: []byte(pairs[2*i+1]), ID: fieldID(name)}
	}
	return t
}

func buildStaticIDs() (ids [256]uint8) {
	for i := hpackStaticLen; i > 0; i-- {
		if id := hpackStatic[i].ID; id != wire.Other {
			ids[id] = uint8(i)
		}
	}
	return ids
}
