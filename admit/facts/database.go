package facts

import (
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Limits of a database.
const (
	maxDatabase  = 512 << 20 // octets; the largest city databases have some 150 MB
	countrySlots = 4096      // records whose country is remembered; a country database has some hundred
)

// database is a MaxMind database with the countries of addresses. It outlives reloads of the site.
type database struct {
	path      string
	countries atomic.Pointer[countries]
}

// countries is one state of the file. It is held in memory, not mapped: who overwrites a mapped file kills its readers.
type countries struct {
	reader *maxminddb.Reader
	known  [countrySlots]atomic.Pointer[country]
}

// country is the ISO code of one record of the database.
type country struct {
	record uintptr
	code   []byte // nil: the record has none
}

// load reads the file anew.
func (d *database) load() (os.FileInfo, error) {
	text, info, err := readFile(d.path, maxDatabase)
	if err != nil {
		return nil, err
	}
	reader, err := maxminddb.OpenBytes(text)
	if err != nil {
		return nil, fmt.Errorf("%s is no MaxMind database: %w", d.path, err)
	}
	d.countries.Store(&countries{reader: reader})
	return info, nil
}

// find is the country of a, nil when it is not known. It allocates only for records that were not asked for lately.
func (d *database) find(a netip.Addr) []byte {
	c := d.countries.Load()
	if c == nil {
		return nil
	}
	record := c.reader.Lookup(a)
	if !record.Found() {
		return nil
	}
	at := record.Offset()
	slot := &c.known[uint64(at)*0x9e3779b97f4a7c15>>52]
	if k := slot.Load(); k != nil && k.record == at {
		return k.code
	}
	return remember(slot, record)
}

// remember reads the country of a record. Not inlined, so that its work is not on the stack of an exchange that waits.
//
//go:noinline
func remember(slot *atomic.Pointer[country], record maxminddb.Result) []byte {
	k := &country{record: record.Offset()}
	var code string
	if err := record.DecodePath(&code, "country", "iso_code"); err == nil && code != "" {
		k.code = []byte(code)
	}
	slot.Store(k)
	return k.code
}
