package site

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected files")

// testDisk has the variables of the files in testdata, and certificates made for this run.
func testDisk(t testing.TB) (d disk, certs string) {
	t.Helper()
	certs = t.TempDir()
	for _, names := range [][2]string{{"cert.pem", "key.pem"}, {"unused.pem", "other.pem"}} {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
		if err != nil {
			t.Fatal(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(certs, names[0]), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
		write(t, filepath.Join(certs, names[1]), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	}
	variables := map[string]string{"CERTS": certs, "TOKEN": "tell-nobody", "PORT": "8080", "WORD": "word"}
	d = realDisk()
	d.env = func(name string) (string, bool) { v, ok := variables[name]; return v, ok }
	return d, certs
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// golden compares with a committed file, or rewrites it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		write(t, path, got)
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./site -update rewrites it)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// stable takes what differs between machines out of a text.
func stable(t testing.TB, text, certs string) string {
	t.Helper()
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(certs, "CERTS", here, "TESTDATA").Replace(text)
}

// printed is Print as a text.
func printed(t testing.TB, s *Site) string {
	t.Helper()
	var b bytes.Buffer
	if err := Print(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// again parses what was printed, with secrets put back, and compares.
func again(t testing.TB, s *Site, d disk) {
	t.Helper()
	text := printed(t, s)
	if s.Admin.Token != "" && strings.Contains(text, string(s.Admin.Token)) {
		t.Fatalf("the secret is printed:\n%s", text)
	}
	secrets := []Secret{s.Admin.Token}
	for _, t := range s.Admin.Tokens {
		secrets = append(secrets, t.Token)
	}
	for _, one := range secrets {
		text = strings.Replace(text, `token: "***"`, "token: "+quoted(string(one)), 1)
	}
	if s.Admin.OIDC != nil {
		text = strings.Replace(text, `client_secret: "***"`, "client_secret: "+quoted(string(s.Admin.OIDC.Secret)), 1)
	}
	back, err := parse("again.yaml", []byte(text), d)
	if err != nil {
		t.Fatalf("the printed site does not parse: %v\n%s", err, text)
	}
	back.Files = s.Files
	if !reflect.DeepEqual(s, back) {
		t.Fatalf("the printed site parses to another one; differences: %q\n%s", Diff(s, back), text)
	}
	if d := Diff(s, back); len(d) > 0 {
		t.Fatalf("equal sites differ: %q", d)
	}
}

func TestGoodFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/good/*.yaml")
	if len(files) < 4 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			d, certs := testDisk(t)
			s, err := load(file, d)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".printed", stable(t, printed(t, s), certs))
			again(t, s, d)
		})
	}
}

func TestBadFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	if len(files) < 20 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			d, certs := testDisk(t)
			s, err := load(file, d)
			if s != nil || err == nil {
				t.Fatal("taken")
			}
			checkMistakes(t, err)
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", strings.ReplaceAll(stable(t, err.Error(), certs), "testdata/bad/", "")+"\n")
		})
	}
}

// checkMistakes is what holds for every error of this package: a *Mistakes, with places, sorted, one line each.
func checkMistakes(t testing.TB, err error) {
	t.Helper()
	var m *Mistakes
	if !errors.As(err, &m) || len(m.List) == 0 {
		t.Fatalf("not mistakes: %#v", err)
	}
	for i, one := range m.List {
		if one.Line < 1 || one.Column < 1 || one.Text == "" || strings.ContainsAny(one.Text, "\n\x00") {
			t.Errorf("a mistake without place or text: %#v", one)
		}
		if i > 0 && one.order == m.List[i-1].order && one.Line < m.List[i-1].Line {
			t.Errorf("not sorted: %v before %v", m.List[i-1], one)
		}
	}
}

func TestTenPlantedMistakesAreTen(t *testing.T) {
	_, err := Load("testdata/bad/ten.yaml")
	var m *Mistakes
	if !errors.As(err, &m) {
		t.Fatal(err)
	}
	if len(m.List) != 10 {
		t.Errorf("%d mistakes:\n%v", len(m.List), m)
	}
}
