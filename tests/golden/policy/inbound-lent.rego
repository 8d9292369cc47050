package stockade
allow if { input.host == "localhost"; input.port == 9000; input.binary == "curl" }
