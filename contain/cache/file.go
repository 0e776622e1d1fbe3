package cache

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/even-keel/evenkeel/wire"
)

// A file is fileMark, the lengths of head and body, their checksums, the head, and the body.
const (
	fileMark  = "evenkeel answer 1\n"
	frameSize = len(fileMark) + 4*4
	headMost  = 1 << 20 // key, fields and times; what is larger stays in memory only
	fieldMost = 10_000
)

// errDamaged is what files say that are not as they were written.
var errDamaged = errors.New("it is damaged, or no answer that this version wrote")

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// flags of objects, as files hold them.
const (
	flagAlways = 1 << iota
	flagStrict
	flagPlain
)

// encode is o as a file; nil: its head is too large for one.
func encode(o *Object) []byte {
	b := make([]byte, frameSize, frameSize+len(o.body)+2<<10)
	copy(b, fileMark)
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	text(o.key)
	text(o.extra)
	b = binary.LittleEndian.AppendUint64(b, o.print)
	for _, n := range [...]int64{int64(o.status), o.born.UnixNano(), o.modifiedAt.UnixNano(), int64(o.life), int64(o.whileRevalidate), int64(o.ifError),
		int64(o.ifOverloaded)} {
		b = binary.AppendVarint(b, n)
	}
	flags := byte(0)
	for i, set := range [...]bool{o.always, o.strict, o.plain} {
		if set {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(len(o.vary)))
	for _, v := range o.vary {
		text(v.name)
		text(v.value)
	}
	b = binary.AppendUvarint(b, uint64(len(o.fields)))
	for i := range o.fields {
		text(string(o.fields[i].Name))
		text(string(o.fields[i].Value))
	}
	head := len(b) - frameSize
	if head > headMost {
		return nil
	}
	for i, n := range [...]uint32{uint32(head), uint32(len(o.body)), checksum(b[frameSize:]), checksum(o.body)} {
		binary.LittleEndian.PutUint32(b[len(fileMark)+4*i:], n)
	}
	return append(b, o.body...)
}

// frame is what stands before a head.
type frame struct{ head, body, headSum, bodySum uint32 }

func (f frame) size() int64 { return int64(frameSize) + int64(f.head) + int64(f.body) }

// readFrame reads the beginning of a file.
func readFrame(b []byte) (f frame, err error) {
	if len(b) < frameSize || string(b[:len(fileMark)]) != fileMark {
		return f, errDamaged
	}
	for i, n := range [...]*uint32{&f.head, &f.body, &f.headSum, &f.bodySum} {
		*n = binary.LittleEndian.Uint32(b[len(fileMark)+4*i:])
	}
	if f.head > headMost {
		return f, errDamaged
	}
	return f, nil
}

// decode makes an object of a whole file. It holds on to b.
func decode(b []byte) (*Object, error) {
	f, err := readFrame(b)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != f.size() {
		return nil, errDamaged
	}
	o, err := f.decodeHead(b[frameSize:])
	if err != nil {
		return nil, err
	}
	o.body = b[frameSize+int(f.head):]
	if checksum(o.body) != f.bodySum {
		return nil, errDamaged
	}
	o.weigh()
	return o, nil
}

// decodeHead makes an object without a body of the head that b begins with.
func (f frame) decodeHead(b []byte) (*Object, error) {
	if uint32(len(b)) < f.head || checksum(b[:f.head]) != f.headSum {
		return nil, errDamaged
	}
	r := cursor{b: b[:f.head:f.head]}
	o := &Object{key: string(r.text()), extra: string(r.text())}
	if print := r.take(8); len(print) == 8 {
		o.print = binary.LittleEndian.Uint64(print)
	}
	o.status, o.born, o.modifiedAt = int(r.number()), time.Unix(0, r.number()), time.Unix(0, r.number())
	for _, d := range [...]*time.Duration{&o.life, &o.whileRevalidate, &o.ifError, &o.ifOverloaded} {
		*d = time.Duration(r.number())
	}
	if flags := r.take(1); len(flags) == 1 {
		o.always, o.strict, o.plain = flags[0]&flagAlways != 0, flags[0]&flagStrict != 0, flags[0]&flagPlain != 0
	}
	for range r.count(maxVary) {
		o.vary = append(o.vary, varied{string(r.text()), string(r.text())})
	}
	for range r.count(fieldMost) {
		c := wire.Field{Name: r.text(), Value: r.text()}
		c.ID = wire.FieldID(c.Name)
		o.fields = append(o.fields, c)
	}
	if r.bad || len(r.b) > 0 || o.key == "" || o.status < 200 || o.status > 599 {
		return nil, errDamaged
	}
	o.etag, _ = wire.FieldNamed(o.fields, "etag")
	o.modified, _ = wire.FieldNamed(o.fields, "last-modified")
	return o, nil
}

// cursor reads what encode appended. bad: it ended too early, or says what cannot be.
type cursor struct {
	b   []byte
	bad bool
}

func (r *cursor) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *cursor) text() []byte {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad = true
		return nil
	}
	r.b = r.b[size:]
	return r.take(n)
}

func (r *cursor) number() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *cursor) count(most uint64) uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > most {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}
