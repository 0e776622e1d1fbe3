package quota

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
)

// Files of quotas. Each begins with a line that tells people and programs what it is:
//
//	evenkeel-quotas/1 journal  0123456789abcdef
//
// Records follow: a head of 16 bytes (little endian: length of the body, number of the record from 0, CRC-32C of the body, CRC-32C of the
// twelve bytes before), then the body. A body is a letter and what it stands for:
//
//	T  mark of a table (length, text), then entries to the end of the body: packed key (length, bytes), start of the
//	   span in nanoseconds since 1970, calls, bytes
//	F  journal that this snapshot has taken in: its id (16 bytes), up to which offset, 1 when it was at its end
//	E  end of a snapshot: how many entries it has
//
// Numbers are varints, signed ones zigzag. Entries are what was added: those of all files sum up. A journal is only ever
// appended to; a snapshot is written beside the old one, synced and renamed.
const (
	kindJournal  = "journal "
	kindSnapshot = "snapshot"

	formatName    = "evenkeel-quotas/"
	formatVersion = "1"
	idBytes       = 16
	headerBytes   = len(formatName) + len(formatVersion) + 1 + len(kindJournal) + 1 + idBytes + 1
	frameBytes    = 16

	bodyMost  = 4 << 20 // a record is ended above 1 MiB; larger ones were not written by us
	bodyAim   = 1 << 20
	keyMost   = 6 * (256 + 2) // six words, each with at most 256 bytes
	deltaMost = 1 << 60       // more than any key can use
)

// damageError is what is wrong with a file, and where.
type damageError struct {
	offset int64
	what   string
}

func (e *damageError) Error() string { return fmt.Sprintf("at byte %d: %s", e.offset, e.what) }

func damaged(offset int64, format string, args ...any) error {
	return &damageError{offset, fmt.Sprintf(format, args...)}
}

// checksum is CRC-32C, which processors have an instruction for. The table is made once by its package.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// header is the first line of a file.
func header(kind, id string) []byte {
	return []byte(formatName + formatVersion + " " + kind + " " + id + "\n")
}

// parseHeader reads the first line of a file.
func parseHeader(b []byte, kind string) (id string, err error) {
	line, _, _ := bytes.Cut(b[:min(len(b), headerBytes+8)], []byte("\n"))
	rest, ours := strings.CutPrefix(string(line), formatName)
	if !ours {
		return "", damaged(0, "it does not begin with %q, so it is not a file of quotas", formatName)
	}
	version, _, _ := strings.Cut(rest, " ")
	if version != formatVersion {
		return "", damaged(0, "it has version %q of the format, this evenkeel reads version %s: it was written by another release", version, formatVersion)
	}
	if len(b) < headerBytes || b[headerBytes-1] != '\n' || !bytes.HasPrefix(b, []byte(formatName+formatVersion+" "+kind+" ")) {
		return "", damaged(0, "its first line is not that of a %s", strings.TrimSpace(kind))
	}
	id = string(b[headerBytes-1-idBytes : headerBytes-1])
	if !isID(id) {
		return "", damaged(int64(headerBytes-1-idBytes), "%q is not the id of a file", id)
	}
	return id, nil
}

// isID says whether id is 16 hexadecimal digits.
func isID(id string) bool {
	return len(id) == idBytes && strings.Trim(id, "0123456789abcdef") == ""
}

// appendRecord appends a record.
func appendRecord(dst []byte, number uint32, body []byte) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, number)
	dst = binary.LittleEndian.AppendUint32(dst, checksum(body))
	dst = binary.LittleEndian.AppendUint32(dst, checksum(dst[start:start+12]))
	return append(dst, body...)
}

// place is how far a file was read: the offset behind the last whole record, and the number of the next.
type filePlace struct {
	offset int64
	number uint32
}

// readRecords calls do with the body of every whole record of b, which begins at from. A last record that is not whole, or whose
// body was not written, is left: that is what a crash leaves behind, and next then lies before it.
func readRecords(b []byte, from filePlace, do func(body []byte, at int64) error) (next filePlace, err error) {
	next = from
	for len(b) > 0 {
		if len(b) < frameBytes {
			return next, nil // torn
		}
		length, number := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if checksum(b[:12]) != binary.LittleEndian.Uint32(b[12:]) {
			if len(bytes.Trim(b, "\x00")) == 0 {
				return next, nil // torn: the file system had made room and not written
			}
			return next, damaged(next.offset, "the head of record %d has a wrong checksum", next.number)
		}
		switch {
		case number != next.number:
			return next, damaged(next.offset, "record %d stands where record %d belongs", number, next.number)
		case length > bodyMost:
			return next, damaged(next.offset, "record %d has %d bytes, at most %d are written", number, length, bodyMost)
		case uint64(len(b)-frameBytes) < uint64(length):
			return next, nil // torn
		}
		body := b[frameBytes : frameBytes+int(length)]
		if checksum(body) != binary.LittleEndian.Uint32(b[8:]) {
			if len(b) == frameBytes+int(length) {
				return next, nil // torn
			}
			return next, damaged(next.offset, "record %d has a wrong checksum", number)
		}
		if err := do(body, next.offset); err != nil {
			return next, err
		}
		b = b[frameBytes+int(length):]
		next.offset += int64(frameBytes) + int64(length)
		next.number++
	}
	return next, nil
}

// entry is what was added to one key in one span.
type entry struct {
	packed string
	start  int64
	delta  used
}

// folded is a journal that a snapshot has taken in.
type folded struct {
	offset   int64
	complete bool
}

// appendTable begins the body of a record of entries.
func appendTable(dst []byte, mark string) []byte {
	return append(binary.AppendUvarint(append(dst, 'T'), uint64(len(mark))), mark...)
}

// appendEntry adds an entry to such a body.
func appendEntry(dst []byte, e entry) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(e.packed))), e.packed...)
	dst = binary.AppendVarint(dst, e.start)
	dst = binary.AppendVarint(dst, e.delta.calls)
	return binary.AppendVarint(dst, e.delta.bytes)
}

func appendFolded(dst []byte, id string, f folded) []byte {
	dst = append(append(dst, 'F'), id...)
	dst = binary.AppendUvarint(dst, uint64(f.offset))
	if f.complete {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendEnd(dst []byte, entries uint64) []byte {
	return binary.AppendUvarint(append(dst, 'E'), entries)
}

// sink is told what a body says. Nil functions are allowed.
type sink struct {
	entry  func(mark string, e entry)
	folded func(id string, f folded)
	end    func(entries uint64)
}

// parseBody reads one body, which begins at byte at of its file.
func parseBody(body []byte, at int64, to sink) error {
	if len(body) == 0 {
		return damaged(at, "a record is empty")
	}
	r := fields{rest: body[1:]}
	switch body[0] {
	case 'T':
		mark := r.text(1 << 10)
		for len(r.rest) > 0 && !r.bad {
			e := entry{packed: r.text(keyMost), start: r.signed(), delta: used{r.amount(), r.amount()}}
			if !r.bad && to.entry != nil {
				to.entry(mark, e)
			}
		}
	case 'F':
		id := r.take(idBytes)
		f := folded{offset: int64(r.unsigned() &^ (1 << 63))}
		done := r.take(1)
		if !r.bad && (!isID(id) || done != "\x00" && done != "\x01") {
			r.bad = true
		}
		f.complete = done == "\x01"
		if !r.bad && to.folded != nil {
			to.folded(id, f)
		}
	case 'E':
		n := r.unsigned()
		if !r.bad && to.end != nil {
			to.end(n)
		}
	default:
		return damaged(at, "a record of the unknown kind %q", body[0])
	}
	if r.bad || len(r.rest) > 0 {
		return damaged(at, "a record of kind %q does not hold what it should", body[0])
	}
	return nil
}

// fields reads the fields of a body.
type fields struct {
	rest []byte
	bad  bool
}

func (r *fields) unsigned() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *fields) signed() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// amount is a number that a key can have used or been given back.
func (r *fields) amount() int64 {
	n := r.signed()
	if n > deltaMost || n < -deltaMost {
		r.bad = true
	}
	return n
}

func (r *fields) take(n int) string {
	if n > len(r.rest) {
		r.bad = true
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

// text is a text with its length before it, of at most that many bytes.
func (r *fields) text(most uint64) string {
	n := r.unsigned()
	if n > most {
		r.bad = true
		return ""
	}
	return r.take(int(n))
}
