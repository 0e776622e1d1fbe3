package receiver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/alert"
	"github.com/even-keel/evenkeel/site"
)

// mailAlerts is how many alerts one mail lists.
const mailAlerts = 100

// mailer sends mail by SMTP.
type mailer struct {
	to   *site.ToEmail
	conf *tls.Config // nil: the system's authorities. Tests put their own here.
}

func (m mailer) send(ctx context.Context, s Site, n alert.Notification) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	host, _, _ := net.SplitHostPort(m.to.Server) // checked with the site
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if m.conf != nil {
		conf = m.conf.Clone()
	}
	conf.ServerName = host
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.to.Server)
	if err != nil {
		return fmt.Errorf("the mail server does not answer: %w", err)
	}
	defer conn.Close()
	if at, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(at)
	}
	// The deadline alone would hold up a stop.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	if m.to.TLS == "tls" {
		conn = tls.Client(conn, conf)
	}
	if err := m.speak(conn, host, conf, s, n); err != nil {
		var said *textproto.Error
		if errors.As(err, &said) && said.Code >= 500 {
			return fmt.Errorf("the mail server refuses (%w): %w", err, errPermanent)
		}
		return fmt.Errorf("the mail was not taken: %w", err)
	}
	return nil
}

// speak is the conversation with the server.
func (m mailer) speak(conn net.Conn, host string, conf *tls.Config, s Site, n alert.Notification) error {
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	if m.to.TLS == "starttls" {
		if err := c.StartTLS(conf); err != nil {
			return fmt.Errorf("no TLS: %w", err)
		}
	}
	if m.to.User != "" {
		// PlainAuth itself refuses to send the password without TLS, but to this machine.
		if err := c.Auth(smtp.PlainAuth("", m.to.User, string(m.to.Password), host)); err != nil {
			return err
		}
	}
	if err := c.Mail(m.to.From); err != nil {
		return err
	}
	for _, to := range m.to.To {
		if err := c.Rcpt(to); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.text(s, n)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// text is the whole mail.
func (m mailer) text(s Site, n alert.Notification) []byte {
	var b bytes.Buffer
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	_, domain, _ := strings.Cut(m.to.From, "@")
	for _, h := range [][2]string{
		{"From", m.to.From}, {"To", strings.Join(m.to.To, ", ")}, {"Subject", mime.QEncoding.Encode("utf-8", oneLine(title(s, n)))},
		{"Date", n.At.Format(time.RFC1123Z)}, {"Message-ID", "<" + hex.EncodeToString(id[:]) + "@" + domain + ">"}, {"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	list, more := shown(n, mailAlerts)
	for _, a := range list {
		fmt.Fprintf(w, "%s: %s\r\n  %s\r\n  since %s\r\n  what to do: %s\r\n  console: %s\r\n\r\n", strings.ToUpper(a.Severity), a.Summary, line(a),
			a.Fired.UTC().Format(time.RFC1123), a.Page(), s.Link+a.Link)
	}
	if more > 0 {
		fmt.Fprintf(w, "and %d more\r\n", more)
	}
	_ = w.Close() // into memory
	return b.Bytes()
}

// oneLine keeps a subject from becoming more fields.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
