package facts

import (
	"maps"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// classWord is one word for a class, in lower case.
type classWord struct {
	text  string
	class exchange.Class
}

// classWords are the words that are known without being named: those of the site file, and those of the SRE book ("Handling
// overload"), whose four become three.
var classWords = []classWord{
	{"critical", exchange.Critical}, {"standard", exchange.Standard}, {"low", exchange.Low},
	{"critical_plus", exchange.Critical}, {"sheddable_plus", exchange.Standard}, {"sheddable", exchange.Low},
}

// classes says who may claim which class in which words.
type classes struct {
	header fieldName // further one beside Evenkeel-Class; its text is empty: none
	from   []netip.Prefix
	proxy  bool // trusted proxies may raise the class: there is no list of its own
	words  []classWord
}

// evenkeelClass is the field that evenkeel itself sends.
var evenkeelClass = fieldName{text: "Evenkeel-Class", id: wire.EvenkeelClass}

func newClasses(cfg *site.ClassSource) classes {
	c := classes{from: cfg.From, proxy: len(cfg.From) == 0, words: classWords}
	if cfg.Header != "" {
		c.header = newFieldName(cfg.Header)
	}
	for _, word := range slices.Sorted(maps.Keys(cfg.Names)) { // own meanings go before those that are known
		c.words = slices.Insert(slices.Clone(c.words), 0, classWord{strings.ToLower(word), classNamed(cfg.Names[word])})
	}
	return c
}

// claim is what the sender of x says of its class, and whether that may raise it. said: there is an Evenkeel-Class.
func (c *classes) claim(x *exchange.Exchange, said bool) exchange.Claim {
	class, set := exchange.Standard, false
	if said {
		class, set = c.said(x, &evenkeelClass, classWords)
	}
	if !set && c.header.text != "" {
		class, set = c.said(x, &c.header, c.words)
	}
	if !set {
		return exchange.Claim{}
	}
	return exchange.Claim{Class: class, Set: true, Lower: !c.mayRaise(x)}
}

// said is the class in the fields called name; the lowest, when there are several. Words that nobody knows say nothing.
func (c *classes) said(x *exchange.Exchange, name *fieldName, words []classWord) (class exchange.Class, set bool) {
	for i := range x.Request.Fields {
		f := &x.Request.Fields[i]
		if !name.is(f) {
			continue
		}
		if one, known := classOf(f.Value, words); known && (!set || one.Rank() > class.Rank()) {
			class, set = one, true
		}
	}
	return class, set
}

// classOf is the class that word stands for, in letters of either case. Sites name few words: to compare them costs less than
// to look one up.
func classOf(word []byte, words []classWord) (exchange.Class, bool) {
	for i := range words {
		if w := &words[i]; len(word) == len(w.text) && wire.EqualFold(word, w.text) {
			return w.class, true
		}
	}
	return 0, false
}

// mayRaise reports whether the sender of x may claim a class above the route's.
func (c *classes) mayRaise(x *exchange.Exchange) bool {
	if c.proxy {
		return x.Trusted
	}
	return contains(c.from, exchange.Plain(x.Client.Addr()))
}

// classNamed is the class that the site file calls word.
func classNamed(word string) exchange.Class {
	switch word {
	case site.ClassCritical:
		return exchange.Critical
	case site.ClassLow:
		return exchange.Low
	}
	return exchange.Standard
}

// fieldName is a name of request fields, made ready to be compared.
type fieldName struct {
	text  string // as it is mostly sent in HTTP/1.1; empty: none
	lower string // as it is sent in HTTP/2
	id    wire.ID
}

func newFieldName(text string) fieldName {
	return fieldName{textproto.CanonicalMIMEHeaderKey(text), strings.ToLower(text), wire.FieldID([]byte(text))}
}

// is reports whether f has the name. It is inlined, as it is asked for every field of every request.
func (n *fieldName) is(f *wire.Field) bool {
	return f.ID == n.id && len(f.Name) == len(n.text) && n.same(f)
}

// same reports whether the name of f, which has the same length and ID, is n.
//
//go:noinline
func (n *fieldName) same(f *wire.Field) bool {
	name := f.Name
	return n.id != wire.Other || string(name) == n.text || string(name) == n.lower || wire.EqualFold(name, n.text)
}

// value is the value of the field, nil for an empty one or none. Two that differ are refused: whoever counts by one of them and
// whoever believes the other would speak of different senders.
func (n *fieldName) value(x *exchange.Exchange) (v []byte, refusal *exchange.Refusal) {
	fields, seen := x.Request.Fields, false
	for i := range fields {
		if !n.is(&fields[i]) {
			continue
		}
		if seen && string(v) != string(fields[i].Value) {
			return nil, refuseAmbiguous
		}
		v, seen = fields[i].Value, true
	}
	if !seen && n.id == wire.Host { // HTTP/2 has it in :authority
		v = x.Request.Host
	}
	if len(v) == 0 {
		return nil, nil
	}
	return v, nil
}
