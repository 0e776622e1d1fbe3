package machine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startPatience is how long a process may take until it listens, on a machine that is busy with other things.
const startPatience = 20 * time.Second

// Root is the folder of the module that the working directory is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod here or above: run this within a clone of evenkeel")
		}
	}
	return "", err
}

// Evenkeel builds cmd/evenkeel into dir and returns the program's path.
func Evenkeel(dir string, race bool) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "evenkeel")
	args := []string{"build", "-o", path}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/evenkeel")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("evenkeel cannot be built: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return path, nil
}

// The ports that are given out: below every range of ephemeral ports, away from evenkeel's own default. A port that the kernel
// chose and that was closed again is soon the near end of somebody's connection, and who was told to listen there cannot.
const firstPort, portCount = 10100, 20000

// Ports gives out addresses. The zero value is ready; it is for one goroutine.
type Ports struct{ first, given int }

// FreeAddress is an address on ip that nobody listens on now. Each call gives another one. Where the search begins is random, so
// that two at once hardly pick the same.
func (p *Ports) FreeAddress(ip string) (string, error) {
	if p.given == 0 {
		p.first = mathrand.IntN(portCount)
	}
	for p.given < portCount {
		address := fmt.Sprintf("%s:%d", ip, firstPort+(p.first+p.given)%portCount)
		p.given++
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		return address, l.Close()
	}
	return "", fmt.Errorf("no free port from %d to %d", firstPort, firstPort+portCount-1)
}

// Listening waits until the process accepts connections on address.
func (p *Process) Listening(address string) error {
	for until := time.Now().Add(startPatience); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if p.Ended() {
			return fmt.Errorf("%s ended at once with %s:\n%s", p.Name, p.Ending(), p.LogTail())
		}
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("%s does not listen on %s after %s:\n%s", p.Name, address, startPatience, p.LogTail())
}

// Certificate writes a fresh self-signed P-256 certificate for localhost and 127.0.0.1 into three files: certificate, key, and
// both together. They appear whole, by rename. serial tells two certificates apart.
func Certificate(cert, key, both string, serial int64) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, private.Public(), private)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	c := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	k := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return errors.Join(Replace(cert, c), Replace(key, k), Replace(both, append(c, k...)))
}

// Replace writes a file beside path and puts it in its place. An empty path is left out.
func Replace(path string, text []byte) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
