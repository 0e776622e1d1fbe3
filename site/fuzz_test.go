package site

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// noDisk keeps fuzzing away from the machine it runs on: a few variables, and no files at all.
func noDisk() disk {
	gone := func(string, int64) ([]byte, error) { return nil, os.ErrNotExist }
	return disk{
		env:  func(name string) (string, bool) { return "value", name == "SET" },
		read: gone,
		list: func(string) ([]string, bool, error) { return nil, false, os.ErrNotExist },
	}
}

// FuzzParse: no input panics, every error is mistakes with places, and a site that is taken prints to the same site.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte("listeners: {web: {listen: ':80'}}\nroutes: [{respond: {body: \"\\u0085\\ufffe\\0 ${SET} $${SET}\"}}]\naccess_log: {sample: 33.3333%}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parse("fuzz.yaml", data, noDisk())
		if err != nil {
			checkMistakes(t, err)
			return
		}
		again(t, s, noDisk())
	})
}

// FuzzUnits: what a unit takes it prints, and takes again for the same value.
func FuzzUnits(f *testing.F) {
	for _, s := range []string{"16KiB", "1.5GiB", "240B/s", "100/s", "7/h", "0.001/m", "99.9%", "33.3333%", "1h30m", "30d", "1.5d2h", "10.0.0.0/8", "::1", "1e9/s", "-1s", "1µs"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := parseSize(s, false); err == nil {
			same(t, s, v, v.String(), func(s string) (Size, error) { return parseSize(s, false) })
		}
		if v, err := parseRate(s); err == nil {
			same(t, s, v, v.String(), parseRate)
		}
		if v, err := parsePercent(s); err == nil {
			same(t, s, v, v.String(), parsePercent)
		}
		if v, err := ParseDuration(s); err == nil {
			same(t, s, v, FormatDuration(v), ParseDuration)
		}
		if v, err := parsePrefix(s); err == nil {
			same(t, s, v, formatPrefix(v), parsePrefix)
		}
	})
}

func same[T comparable](t *testing.T, from string, v T, text string, parse func(string) (T, error)) {
	t.Helper()
	if back, err := parse(text); err != nil || back != v {
		t.Errorf("%q prints as %q, which is %v, %v", from, text, back, err)
	}
}

// FuzzQuick: no flags panic, and every error is mistakes.
func FuzzQuick(f *testing.F) {
	f.Add(":8080", "http://127.0.0.1:3000", "off")
	f.Add("", "h2c://[::1]:1/", "127.0.0.1:0")
	f.Add("[::]:1", "tcp://a:1?x", "\x00")
	f.Fuzz(func(t *testing.T, listen, to, admin string) {
		s, err := quick(listen, []string{to}, admin, noDisk())
		var m *Mistakes
		if err != nil && !errors.As(err, &m) {
			t.Fatalf("not mistakes: %v", err)
		}
		if err == nil {
			again(t, s, noDisk())
		}
	})
}
