package screen

import (
	"fmt"
	"strings"
)

// requestRules are the parts of the core rule set that look at requests, in their order. Those that look at answers are not loaded:
// evenkeel does not hold answers back to look at them.
var requestRules = []string{
	"REQUEST-901-INITIALIZATION", "REQUEST-905-COMMON-EXCEPTIONS", "REQUEST-911-METHOD-ENFORCEMENT", "REQUEST-913-SCANNER-DETECTION",
	"REQUEST-920-PROTOCOL-ENFORCEMENT", "REQUEST-921-PROTOCOL-ATTACK", "REQUEST-922-MULTIPART-ATTACK", "REQUEST-930-APPLICATION-ATTACK-LFI",
	"REQUEST-931-APPLICATION-ATTACK-RFI", "REQUEST-932-APPLICATION-ATTACK-RCE", "REQUEST-933-APPLICATION-ATTACK-PHP",
	"REQUEST-934-APPLICATION-ATTACK-GENERIC", "REQUEST-941-APPLICATION-ATTACK-XSS", "REQUEST-942-APPLICATION-ATTACK-SQLI",
	"REQUEST-943-APPLICATION-ATTACK-SESSION-FIXATION", "REQUEST-944-APPLICATION-ATTACK-JAVA", "REQUEST-949-BLOCKING-EVALUATION",
	"REQUEST-999-COMMON-EXCEPTIONS-AFTER",
}

// settingsText stands before the rules. The engine is always on: what becomes of a finding is decided by the stage. Rules 200000 to 200006
// choose how a body is read, as coraza.conf-recommended does; a body that cannot be read is an attack only when all
// of it was there. What has more arguments than the engine reads is one always: no rule sees those that follow, and whoever puts
// a thousand before an attack would get through. Methods of REST interfaces are allowed, as in evenkeel's own checks.
const settingsText = `
SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyLimit %[3]d
SecRequestBodyInMemoryLimit %[3]d
SecRequestBodyLimitAction ProcessPartial
SecRequestBodyJsonDepthLimit 128
SecArgumentsLimit %[4]d
SecResponseBodyAccess Off
SecAuditEngine Off
SecRxPreFilter On
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^application/[a-z0-9.-]+[+]json" "id:200006,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:400,msg:'The request body could not be read.',severity:2,chain"
    SecRule INBOUND_DATA_ERROR "@eq 0" "t:none"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:200003,phase:2,t:none,log,deny,status:400,msg:'The multipart body is malformed.',severity:2,chain"
    SecRule INBOUND_DATA_ERROR "@eq 0" "t:none"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200004,phase:1,t:none,log,deny,status:400,msg:'The query has more arguments than are looked at.',severity:2"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200005,phase:2,t:none,log,deny,status:400,msg:'The body has more arguments than are looked at.',severity:2"
SecDefaultAction "phase:1,log,noauditlog,pass"
SecDefaultAction "phase:2,log,noauditlog,pass"
SecAction "id:900990,phase:1,pass,t:none,nolog,setvar:tx.crs_setup_version=4250"
SecAction "id:900000,phase:1,pass,t:none,nolog,setvar:tx.blocking_paranoia_level=%[1]d,setvar:tx.detection_paranoia_level=%[1]d"
SecAction "id:900110,phase:1,pass,t:none,nolog,setvar:tx.inbound_anomaly_score_threshold=%[2]d,setvar:tx.outbound_anomaly_score_threshold=%[2]d"
SecAction "id:900200,phase:1,pass,t:none,nolog,setvar:'tx.allowed_methods=GET HEAD POST OPTIONS PUT PATCH DELETE'"
`

// closing stands behind all rules, so that no file of directives makes evenkeel hold answers back, or write files.
const closing = "\nSecRuleEngine On\nSecAuditEngine Off\nSecResponseBodyAccess Off\n"

// slack is by how much the rule set's own limit is above body_bytes: what completes a body that was cut off.
const slack = 1 << 10

// How many arguments of a request the rules look at: 1,000, as the engine recommends, and one for each 64 bytes of larger bodies, whose lists
// of records have more. An argument costs rules some 170 µs, as 64 bytes of a long one do: so many cost no more than one that fills the body.
const (
	minArgs      = 1000
	bytesPerArgs = 64
)

func preamble(key setup) string {
	return fmt.Sprintf(settingsText, key.paranoia, key.anomaly, key.body+slack, max(minArgs, key.body/bytesPerArgs))
}

// above takes out the rules of higher paranoia levels than the site asks for. They would be skipped anyway, at the cost of stepping over them
// for each request.
func above(paranoia int) string {
	var b strings.Builder
	for level := paranoia + 1; level <= 4; level++ {
		fmt.Fprintf(&b, "SecRuleRemoveByTag \"paranoia-level/%d\"\n", level)
	}
	return b.String()
}
