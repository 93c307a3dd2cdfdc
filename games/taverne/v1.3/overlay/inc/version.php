<?php
// The version of this code. The database keeps its own in settings.version.
const VERSION = '1.3.0';
