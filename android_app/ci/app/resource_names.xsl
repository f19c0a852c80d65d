<?xml version="1.0" encoding="UTF-8"?>
<!-- The numbers of strings.xml's strings, as far as the app's code uses them: 0x7f010000 and up, which apk/ tells Android's
     resource compiler. -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output method="text" encoding="UTF-8"/>
  <xsl:template match="/resources">
    <xsl:text>package io.github.llmtflite.app&#10;&#10;object R {&#10;    @Suppress("ClassName", "ConstPropertyName")&#10;    object string {&#10;</xsl:text>
    <xsl:for-each select="string">
      <xsl:value-of select="concat('        const val ', @name, ' = ', 2130771967 + position(), '&#10;')"/>
    </xsl:for-each>
    <xsl:text>    }&#10;}&#10;</xsl:text>
  </xsl:template>
</xsl:stylesheet>
