package proxy

import (
	"errors"

	"github.com/even-keel/evenkeel/wire"
)

// hpackTableSize bounds the dynamic table of a decoder, in bytes as RFC 7541 §4.1 counts them. It is
// the size before SETTINGS, so that none has to be sent.
const hpackTableSize = 4096

// hpackOverhead is what RFC 7541 §4.1 adds for each field.
const hpackOverhead = 32

var (
	errHpack     = errors.New("the header block is not HPACK as RFC 7541 has it")
	errHpackLate = errors.New("the header block changes the table's size after its first field")
)

// hpackEntry is one field of the dynamic table.
type hpackEntry struct {
	off    uint32 // in buf: name, then value
	name   uint16
	value  uint16
	static uint8 // the static entry that has the name, 0: the name is in buf
	id     wire.ID
}

func (e *hpackEntry) size() int { return int(e.name) + int(e.value) + hpackOverhead }

// hpackDecoder decodes the header blocks of one direction of one connection. Its memory grows with what the peer puts
// into the dynamic table, to at most three times hpackTableSize. One goroutine at a time may use it. The
// zero value is ready.
type hpackDecoder struct {
	buf   []byte       // names and values of live entries from start on
	start int          // bytes of buf in front that are dead
	ents  []hpackEntry // oldest first, live from first on
	first int
	size  int // of live entries, as RFC 7541 counts
	less  int // hpackTableSize minus the maximum that the encoder chose
}

// h2Fields is where a decoded block goes. Field slices point into arena, or into the static table.
type h2Fields struct {
	list     []wire.Field
	arena    []byte
	size     int // of the list, as RFC 9113 §6.5.2 counts
	maxSize  int
	maxCount int
	over     bool // a maximum was passed; further fields were decoded and dropped
}

func (f *h2Fields) reset(maxSize, maxCount int) {
	f.list, f.arena, f.size, f.over = f.list[:0], f.arena[:0], 0, false
	f.maxSize, f.maxCount = maxSize, maxCount
}

// add takes a field whose bytes are in arena from mark on, or static.
func (f *h2Fields) add(name, value []byte, id wire.ID, mark int) {
	f.size += len(name) + len(value) + hpackOverhead
	if f.over || f.size > f.maxSize || len(f.list) >= f.maxCount {
		f.over = true
		f.arena = f.arena[:mark]
		return
	}
	f.list = append(f.list, wire.Field{Name: name, Value: value, ID: id})
}

// decode decodes one whole header block to the end of f.
func (d *hpackDecoder) decode(p []byte, f *h2Fields) error {
	begun := false
	for len(p) > 0 {
		b := p[0]
		var err error
		switch {
		case b&0x80 != 0:
			begun = true
			p, err = d.indexed(p, f)
		case b&0xc0 == 0x40:
			begun = true
			p, err = d.literal(p, 6, true, f)
		case b&0xe0 == 0x20:
			var n int
			n, p, err = hpackInt(p, 5)
			if err == nil && begun {
				err = errHpackLate
			}
			if err == nil && n > hpackTableSize {
				err = errHpack
			}
			if err == nil {
				d.less = hpackTableSize - n
				d.evict(0)
			}
		default:
			begun = true
			p, err = d.literal(p, 4, false, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hpackIntMax stands for every integer above it: larger than any index, string or table.
const hpackIntMax = 1 << 30

// hpackInt reads an integer with that many bits of prefix (RFC 7541 §5.1).
func hpackInt(p []byte, prefix uint) (int, []byte, error) {
	limit := 1<<prefix - 1
	n := int(p[0]) & limit
	if n < limit {
		return n, p[1:], nil
	}
	sum := uint64(n)
	for i := 1; i < len(p) && i <= 9; i++ {
		sum += uint64(p[i]&0x7f) << (7 * (i - 1))
		if p[i]&0x80 == 0 {
			return int(min(sum, hpackIntMax)), p[i+1:], nil
		}
	}
	return 0, nil, errHpack
}

func (d *hpackDecoder) indexed(p []byte, f *h2Fields) ([]byte, error) {
	i, p, err := hpackInt(p, 7)
	if err != nil || i == 0 {
		return nil, errHpack
	}
	if i <= hpackStaticLen {
		s := &hpackStatic[i]
		f.add(s.Name, s.Value, s.ID, len(f.arena))
		return p, nil
	}
	e := d.entry(i)
	if e == nil {
		return nil, errHpack
	}
	if f.over { // nothing is kept any more: the copy is not needed
		f.size += e.size()
		return p, nil
	}
	mark := len(f.arena)
	name := d.copyName(e, f)
	from := len(f.arena)
	f.arena = append(f.arena, d.valueOf(e)...)
	f.add(name, f.arena[from:len(f.arena):len(f.arena)], e.id, mark)
	return p, nil
}

// entry is the entry with that index, counted behind the static table; nil if there is none.
func (d *hpackDecoder) entry(i int) *hpackEntry {
	at := len(d.ents) - (i - hpackStaticLen)
	if at < d.first || at >= len(d.ents) {
		return nil
	}
	return &d.ents[at]
}

func (d *hpackDecoder) valueOf(e *hpackEntry) []byte {
	from := e.off
	if e.static == 0 {
		from += uint32(e.name)
	}
	return d.buf[from : from+uint32(e.value)]
}

// copyName is the name of e where it stays as long as f does.
func (d *hpackDecoder) copyName(e *hpackEntry, f *h2Fields) []byte {
	if e.static != 0 {
		return hpackStatic[e.static].Name
	}
	from := len(f.arena)
	f.arena = append(f.arena, d.buf[e.off:e.off+uint32(e.name)]...)
	return f.arena[from:len(f.arena):len(f.arena)]
}

func (d *hpackDecoder) literal(p []byte, prefix uint, insert bool, f *h2Fields) ([]byte, error) {
	i, p, err := hpackInt(p, prefix)
	if err != nil {
		return nil, err
	}
	mark := len(f.arena)
	var name []byte
	var id wire.ID
	static := uint8(0)
	switch {
	case i == 0:
		if name, p, err = hpackString(p, f); err != nil {
			return nil, err
		}
		id = fieldID(name)
	case i <= hpackStaticLen:
		name, id, static = hpackStatic[i].Name, hpackStatic[i].ID, uint8(i)
	default:
		e := d.entry(i)
		if e == nil {
			return nil, errHpack
		}
		name, id, static = d.copyName(e, f), e.id, e.static
	}
	value, p, err := hpackString(p, f)
	if err != nil {
		return nil, err
	}
	if insert {
		d.insert(name, value, id, static)
	}
	f.add(name, value, id, mark)
	return p, nil
}

// hpackString decodes a string (RFC 7541 §5.2) into the arena.
func hpackString(p []byte, f *h2Fields) (s, rest []byte, err error) {
	if len(p) == 0 {
		return nil, nil, errHpack
	}
	huffman := p[0]&0x80 != 0
	n, p, err := hpackInt(p, 7)
	if err != nil || n > len(p) {
		return nil, nil, errHpack
	}
	from, ok := len(f.arena), true
	if huffman {
		f.arena, ok = appendHuffman(f.arena, p[:n])
	} else {
		f.arena = append(f.arena, p[:n]...)
	}
	if !ok {
		return nil, nil, errHpack
	}
	return f.arena[from:len(f.arena):len(f.arena)], p[n:], nil
}

// insert puts a field in front of the table. A field larger than the table empties it (RFC 7541 §4.4).
func (d *hpackDecoder) insert(name, value []byte, id wire.ID, static uint8) {
	size := len(name) + len(value) + hpackOverhead
	d.evict(size)
	if size > hpackTableSize-d.less {
		return
	}
	if d.first > 0 && len(d.ents) == cap(d.ents) || d.start > 0 && len(d.buf)+len(name)+len(value) > cap(d.buf) {
		d.compact()
	}
	off := uint32(len(d.buf))
	if static == 0 {
		d.buf = append(d.buf, name...)
	}
	d.buf = append(d.buf, value...)
	d.ents = append(d.ents, hpackEntry{off: off, name: uint16(len(name)), value: uint16(len(value)), static: static, id: id})
	d.size += size
}

// evict takes the oldest entries out until need more bytes have room.
func (d *hpackDecoder) evict(need int) {
	for d.first < len(d.ents) && d.size+need > hpackTableSize-d.less {
		e := &d.ents[d.first]
		d.size -= e.size()
		d.first++
	}
	if d.first == len(d.ents) {
		d.ents, d.buf, d.first, d.start = d.ents[:0], d.buf[:0], 0, 0
		return
	}
	d.start = int(d.ents[d.first].off)
}

// compact moves what lives to the front. It runs once per some dozen insertions.
func (d *hpackDecoder) compact() {
	d.buf = d.buf[:copy(d.buf, d.buf[d.start:])]
	d.ents = d.ents[:copy(d.ents, d.ents[d.first:])]
	for i := range d.ents {
		d.ents[i].off -= uint32(d.start)
	}
	d.first, d.start = 0, 0
}

// appendHpackInt writes an integer (RFC 7541 §5.1); first holds the bits before the prefix.
func appendHpackInt(b []byte, first byte, prefix uint, n int) []byte {
	limit := 1<<prefix - 1
	if n < limit {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(limit))
	n -= limit
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendHpackText(b []byte, v []byte) []byte {
	return append(appendHpackInt(b, 0, 7, len(v)), v...)
}

// appendHpackField writes one field with its name in lower case. Neither Huffman codes nor the dynamic table are used:
// both cost more CPU than the bytes they save, HAProxy does the same, and an encoder without
// state needs no lock. Values that must not be kept by intermediaries are marked as never indexed.
func appendHpackField(b []byte, f *wire.Field) []byte {
	first := byte(0)
	if f.ID == wire.Authorization || f.ID == wire.Cookie || f.ID == wire.SetCookie {
		first = 0x10
	}
	if i := hpackStaticID[f.ID]; i != 0 {
		b = appendHpackInt(b, first, 4, int(i))
		return appendHpackText(b, f.Value)
	}
	b = appendHpackInt(append(b, first), 0, 7, len(f.Name))
	for _, c := range f.Name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return appendHpackText(b, f.Value)
}

// appendHpackStatus writes :status.
func appendHpackStatus(b []byte, status int) []byte {
	switch status {
	case 200:
		return append(b, 0x88)
	case 204:
		return append(b, 0x89)
	case 206:
		return append(b, 0x8a)
	case 304:
		return append(b, 0x8b)
	case 400:
		return append(b, 0x8c)
	case 404:
		return append(b, 0x8d)
	case 500:
		return append(b, 0x8e)
	}
	return append(b, 0x08, 3, byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10))
}
